"""What the harness keeps for itself, damaged: it is made again or set aside, and blocks nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tests.malformed.world import WORKS, Case, World

TEXTS: dict[str, bytes] = {
    "nothing": b"",
    "a list": b"[]",
    "a number": b"3",
    "cut off": b'{"a": "b',
    "not UTF-8": b'{"a": "\xff"}',
    "a deep list": b"[" * 100_000,
    "numbers": b'{"a": 3}',
    "a number of 5,000 digits": b'{"a": ' + b"9" * 5000 + b"}",
    "zeros": b"\0" * 100,
    "a lone surrogate": b'{"a": "\\ud800", "\\ud800": "0123456789abcdef"}',
}


def cases() -> Iterator[Case]:
    """All of them."""
    for name, data in TEXTS.items():
        yield Case("revisions.json", name, lambda world, d=data: _revisions(world, d), (WORKS,))
    yield Case("revisions.json", "a FIFO", _revisions_fifo, (WORKS,))
    yield Case("revisions.json", "a folder", _revisions_folder, (WORKS,))
    for number, (name, data) in enumerate(TEXTS.items()):
        for file in (("meta.json", "outputs.json", "adapter_config.json", "DONE")[number % 4],):
            yield Case("stages", f"{file}: {name}", lambda world, f=file, d=data: _stage(world, f, d), (WORKS,))


def _forget_revisions() -> Path:
    from harness import models
    from harness.assets import cache_root

    models._new_revisions.clear()
    path = cache_root() / models.REVISIONS
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)
    return path


def _revisions(world: World, data: bytes) -> list[str]:
    _forget_revisions().write_bytes(data)
    return world.line("--methods", "base", plan=data != b"[]")  # one run writes it anew


def _revisions_fifo(world: World) -> list[str]:
    os.mkfifo(_forget_revisions())
    return world.line("--methods", "base")


def _revisions_folder(world: World) -> list[str]:
    _forget_revisions().mkdir()
    return world.line("--methods", "base")


def _stage(world: World, file: str, data: bytes) -> list[str]:
    """A stage that the shared run wrote, with one file damaged behind its marker's back."""
    stages = Path(os.environ["HARNESS_STAGES"])
    found = sorted(stages.glob(f"*/*/{file}"))
    if found:
        found[0].write_bytes(data)
    return world.line("--methods", "uniform,base", plan=False)
