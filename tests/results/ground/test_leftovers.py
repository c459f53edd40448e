"""What nobody finished goes once whoever wrote it is gone, and nothing else does."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from results.ground import owners
from results.ground.files import STAGING, sweep


def left(folder: Path, target: str, owner: owners.Owner, age: float = 0.0) -> Path:
    path = folder / f"{STAGING}{target}.{owner.text()}.0123abcd"
    path.mkdir()
    os.utime(path, (time.time() - age,) * 2)
    return path


ME = owners.myself()
DEAD = ME.model_copy(update={"started": ME.started + 1})
FAR = ME.model_copy(update={"boot": "00000000"})
DAY = 24 * 3600.0


@pytest.mark.parametrize(
    ("owner", "age", "goes"),
    [
        (ME, 0.0, False),
        (ME, 2 * DAY, False),  # it lives, however long it takes
        (DEAD, 0.0, True),
        (FAR, 0.9 * DAY, False),
        (FAR, 1.1 * DAY, True),
    ],
)
def test_leftovers_go_with_who_wrote_them(owner: owners.Owner, age: float, goes: bool, tmp_path: Path) -> None:
    path = left(tmp_path, "k", owner, age)
    sweep(tmp_path)
    assert path.exists() is not goes


@pytest.mark.parametrize(("age", "goes"), [(0.9 * DAY, False), (1.1 * DAY, True)])
def test_leftovers_of_nobody_known_go_after_a_day(age: float, goes: bool, tmp_path: Path) -> None:
    path = tmp_path / f"{STAGING}k"
    path.write_text("x")
    os.utime(path, (time.time() - age,) * 2)
    sweep(tmp_path)
    assert path.exists() is not goes


def test_leftovers_of_one_name_go_alone(tmp_path: Path) -> None:
    mine, others, dotted = left(tmp_path, "k", DEAD), left(tmp_path, "kk", DEAD), left(tmp_path, "k.json", DEAD)
    (mine / "file").write_text("x")
    sweep(tmp_path, "k")
    assert (mine.exists(), others.exists(), dotted.exists()) == (False, True, True)
    sweep(tmp_path, "k.json")
    assert (others.exists(), dotted.exists()) == (True, False)
    sweep(tmp_path / "nothing")


def test_nothing_but_leftovers_is_swept(tmp_path: Path) -> None:
    kept = tmp_path / f"k.{DEAD.text()}.0123abcd"
    kept.mkdir()
    sweep(tmp_path)
    assert kept.exists()
