"""Configuration of a run: presets in YAML that extend one another, overrides, and typed validation.

Every value is resolved here, before anything heavy is imported; unknown keys are refused with the nearest valid name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from harness.planning.plugins import located
from harness.planning.sections import RunConfig
from results.ground.errors import HarnessError
from results.ground.names import shown, unknown
from results.ground.places import place
from results.ground.reading import Unreadable, file_text, yaml_value
from results.ground.settings import Settings

TRANSFER = "transfer.from"
"""Setting that every method with experts or a fit takes: the base model that these come from."""


ABSTRACT = "default"
"""The preset that all others extend."""
_LONGEST = 16 * 2**20
"""Bytes of a configuration."""


def preset_names() -> list[str]:
    """Names of the presets that ship, without the abstract `default`."""
    folder = resources.files("harness.presets")
    names = (entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return sorted(name for name in names if name != ABSTRACT)


def load_preset(name: str) -> dict[str, Any]:
    """A preset (by name, or a YAML file's path) merged onto its ancestors; `preset` holds its name.

    Raises:
        HarnessError: no such preset or file, broken YAML, or a circle of `extends`.
    """
    merged: dict[str, Any] = {}
    chain: list[dict[str, Any]] = []
    seen: list[str] = []
    current: str | None = name
    while current is not None:
        if current in seen:
            raise HarnessError(
                f"The preset '{name}' extends itself through {' → '.join([*seen, current])}: remove one `extends`."
            )
        seen.append(current)
        layer = _read(current)
        chain.append(layer)
        current = _below(layer, current)
    for layer in reversed(chain):
        merged = deep_merge(merged, layer)
    own = Path(name).stem if name.endswith(_FILES) else name
    # A run's own file says which preset it came from.
    return merged if "preset" in merged else merged | {"preset": own}


_FILES = (".yaml", ".yml")


def _below(layer: dict[str, Any], name: str) -> str | None:
    """What a configuration extends, taken out of it; a file that lies beside it by its whole path.

    Raises:
        HarnessError: it is no name.
    """
    if "extends" not in layer:
        return None
    below = layer.pop("extends")
    if not isinstance(below, str) or not below.strip():
        raise HarnessError(
            f"The configuration {name} extends {below!r}, which is no preset and no file: name one "
            f"({', '.join(preset_names())}, or a .yaml file beside it), or take `extends` out."
        )
    if name.endswith(_FILES) and below.endswith(_FILES):
        return os.path.normpath(place(name).absolute().parent / place(below))
    return below


def _read(name: str) -> dict[str, Any]:
    try:
        if name.endswith(_FILES):
            text = file_text(place(name), _LONGEST)
        elif name in (*preset_names(), ABSTRACT):
            text = (resources.files("harness.presets") / f"{name}.yaml").read_text(encoding="utf-8")
        else:
            raise unknown("preset", name, preset_names())
        layer = yaml_value(text)
    except (FileNotFoundError, NotADirectoryError):
        raise HarnessError(
            f"The configuration file {name} does not exist: give a path, or a preset ({', '.join(preset_names())})."
        ) from None
    except Unreadable as error:
        raise HarnessError(f"The configuration {name} {error}: correct it there.") from error
    if not isinstance(layer, dict):
        raise HarnessError(f"The configuration {name} must be a mapping of keys to values.")
    for key in _sections() & layer.keys():
        # What lies above it could replace it without a word.
        if not isinstance(layer[key], dict) and "cells" not in layer:
            raise HarnessError(
                f"The section {key} of {name} is {shown(layer[key])} and no mapping: write its keys below it."
            )
    if "cells" in layer:
        return plain_of(place(name))
    # Files that a configuration names lie where it lies, wherever the command is given.
    return located(layer, place(name).absolute().parent) if name.endswith(_FILES) else layer


def _sections() -> set[str]:
    """Keys of a configuration that hold keys."""
    fields = RunConfig.model_fields.items()
    nested = {
        key for key, info in fields if isinstance(info.annotation, type) and issubclass(info.annotation, Settings)
    }
    return nested | {"judge", "method_defaults", "method_overrides", "tuned_rates"}


def plain_of(path: Path) -> dict[str, Any]:
    """The configuration of a run from its `run.yaml`.

    Raises:
        StoreError: it is no such file, or its configurations differ.
    """
    from results.planned import plain
    from results.store import read_plan

    return plain(read_plan(path), path)


_WHOLE = ("paths", "method_defaults", "tuned_rates", "judge")
"""Mappings whose keys are data: replaced as a whole."""
_JOINED = "include"
"""A list to which a layer above adds: files that the layers below need stay known."""


def deep_merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`; nested mappings merge, everything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        nested = isinstance(old, Mapping) and isinstance(value, Mapping) and key not in _WHOLE
        merged[key] = deep_merge(old, value) if nested else value  # type: ignore[arg-type]
        if key == _JOINED and isinstance(old, list | tuple) and isinstance(value, list | tuple):
            merged[key] = [*old, *value]
    return merged


def resolve(preset: str, overrides: Mapping[str, Any], sets: Iterable[str | tuple[str, Any]] = ()) -> RunConfig:
    """The configuration of a run.

    Args:
        preset: name or path of a preset, or the `run.yaml` of a run.
        overrides: nested values from named options (`{"eval": {"limit": 20}}`).
        sets: `key=value` texts with YAML values, or pairs: a key of the run (`experts.rank=8`), of every chosen method
            (`loss.entropy.sign=-1`), or of one method (`methods.mixer.loss.entropy.sign=-1`).

    Raises:
        HarnessError: unknown key (naming the nearest), wrong type, or a malformed `key=value`.
    """
    return applied(load_preset(preset), overrides, sets)


def applied(
    below: Mapping[str, Any],
    overrides: Mapping[str, Any],
    sets: Iterable[str | tuple[str, Any]] = (),
    present: Iterable[str] = (),
) -> RunConfig:
    """`resolve` on the values of a preset or of a stored configuration; `present`: methods that the run has already."""
    values = deep_merge(below, overrides)
    by_method = _by_method(values.pop("method_overrides", None) or {})
    run_keys = set(dotted_keys(RunConfig))
    for one in sets:
        key, value = parse_set(one) if isinstance(one, str) else one
        if key.startswith("methods.") and key.count(".") >= 2:
            _, method, rest = key.split(".", 2)
            by_method.setdefault(method, {})[rest] = value
        elif key in run_keys or key.startswith("judge."):
            values = with_setting(values, key, value)
        else:
            by_method.setdefault("*", {})[key] = value
    values["method_overrides"] = by_method
    config = validate(located(values, Path.cwd()))
    from tasks.sandbox import NAMES

    known = [*dict.fromkeys([*config.methods, *present]), "all"]
    if config.min_isolation not in NAMES:
        raise unknown("isolation level", config.min_isolation, NAMES)
    if config.against not in (None, *known):
        raise unknown("method of this run", str(config.against), known)
    return config


def _by_method(said: Any) -> dict[str, dict[str, Any]]:
    """Settings of methods by method, to be added to.

    Raises:
        HarnessError: they are something else.
    """
    if not isinstance(said, Mapping) or not all(isinstance(own, Mapping) for own in said.values()):
        raise HarnessError("method_overrides must map methods to mappings of keys to values: correct it there.")
    return {name: dict(own) for name, own in said.items()}


def with_setting(values: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """`values` with one dotted key set; a key of the judge is set beside the others that it has."""
    above, own = nest(key, value), values.get("judge")
    if key.startswith("judge.") and isinstance(own, Mapping):
        above["judge"] = {**own, **above["judge"]}
    return deep_merge(values, above)


def validate(values: Mapping[str, Any]) -> RunConfig:
    """Typed configuration from plain values, pools by their members; the first problem becomes a sentence."""
    from harness.planning.pools import with_pools

    try:
        return RunConfig.model_validate(with_pools(values))
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        what = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            raise unknown("configuration key", key, sorted(dotted_keys(RunConfig))) from error
        raise HarnessError(
            f"The configuration key {key} is wrong ({what[:1].lower()}{what[1:]}): got {shown(problem['input'])}."
        ) from error


_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)", re.ASCII)


def parse_set(text: str) -> tuple[str, Any]:
    """`key=value` with a YAML value."""
    key, sign, raw = text.partition("=")
    if not sign or not key:
        raise HarnessError(f"`--set {text}` must have the form key=value.")
    try:
        return key.strip(), _number(yaml_value(raw))
    except Unreadable as error:
        raise HarnessError(f"The value in `--set {text}` {error}: correct it.") from error


def _number(value: Any) -> Any:
    # YAML 1.1 reads 1e-3 (no dot) as text. Words such as `nan` and `inf` are texts indeed.
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


def nest(key: str, value: Any) -> dict[str, Any]:
    """`a.b` and a value as `{a: {b: value}}`."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return dict(value)


def dotted_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """All leaf keys of a pydantic model, dotted."""
    keys: list[str] = []
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys += dotted_keys(kind, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys
