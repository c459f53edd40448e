"""What a record says about the machine: memory is measured for a phase, not for everything that ran before."""

from __future__ import annotations

import sys

import pytest

from harness.provenance import git_state, phase_peak

MIB = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process restart its memory mark")
def test_a_phase_has_its_own_peak() -> None:
    with phase_peak("cpu") as large:
        block = bytearray(300 * MIB)
        del block
    with phase_peak("cpu") as small:
        pass
    assert large.bytes is not None
    assert small.bytes is not None
    assert 250 * MIB < large.bytes - small.bytes < 400 * MIB


def test_a_system_that_cannot_tell_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr("pathlib.Path.write_text", refuse)
    with phase_peak("cpu") as peak:
        pass
    assert peak.bytes is None


@pytest.mark.parametrize("which", [None, "/no/such/git"])
def test_without_git_there_is_no_commit_and_no_error(which: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("not to be run")

    monkeypatch.setattr("shutil.which", lambda _name: which)
    monkeypatch.setattr("subprocess.run", refuse)
    assert git_state() == (None, None)
