"""Malformed inputs of every kind through the command line: no traceback, no hang, nothing accepted in silence."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from harness import cli
from harness.planning import outside
from methods import registry as methods
from tasks import guarded
from tasks import registry as tasks
from tests.malformed import world as worlds
from tests.malformed.kinds import CASES
from tests.malformed.world import Case, World


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """What no case changes, made once."""
    root = tmp_path_factory.mktemp("malformed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_STAGES", str(root / "stages"))
        patch.setenv("HARNESS_CACHE", str(root / "cache"))
        patch.setenv("HF_HUB_OFFLINE", "1")
        # Typer makes its commands anew at every call, which is half of what a case costs.
        patch.setattr(cli, "app", get_command(cli.app))
        for module in (outside, guarded):
            patch.setattr(module, "RENDERING", 1.0)  # what never ends takes all of it
        yield worlds.make(root)


@pytest.fixture
def world(shared: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The shared folders and an empty one, in which a case is at home; what it brings along is forgotten after it."""
    for registry in (methods, tasks):
        monkeypatch.setattr(registry, "_BROUGHT", dict(registry._BROUGHT))
    monkeypatch.chdir(tmp_path)
    # Files must be readable by their bits and not because root may read everything.
    os.umask(0o022)
    return dataclasses.replace(shared, here=tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_malformed_input_ends_in_a_sentence(case: Case, world: World) -> None:
    ended = worlds.call(case.line(world))
    if ended.raised is not None:
        raise AssertionError(f"{case}: {ended.ends}") from ended.raised
    assert ended.ends in case.ends, (ended.code, ended.err[-2000:], ended.out[-500:])
    assert case.says in ended.err + ended.out


def test_there_are_many_of_each_kind() -> None:
    assert len(CASES) >= 600
    assert len({str(case) for case in CASES}) == len(CASES)
