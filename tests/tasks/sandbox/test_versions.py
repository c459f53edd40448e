"""Programs that isolate must say a version, and a new enough one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.sandbox import doctor, versions
from tasks.sandbox.levels import named
from tasks.sandbox.versions import missing, version_of, written


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes both programs print this as their version."""

    def install(text: str) -> None:
        path = tmp_path / f"program-{len(list(tmp_path.iterdir()))}"
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
        path.chmod(0o755)
        monkeypatch.setattr(versions, "installed", lambda program: str(path))

    return install


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("bubblewrap 0.8.0", (0, 8, 0)),
        ("runsc version release-20240115.0\nspec: 1.1.0", (20240115, 0)),
        ("runsc version 0.0~20221219.0\nspec: 1.0.2-dev", (20221219, 0)),
        ("runsc version VERSION_MISSING", None),
        ("", None),
    ],
)
def test_versions_are_read(says: Callable[[str], None], text: str, version: tuple[int, ...] | None) -> None:
    says(text)
    assert version_of(str(versions.installed("bwrap"))) == version


def test_old_programs_are_refused(says: Callable[[str], None]) -> None:
    says("bubblewrap 0.7.0")
    assert "is version 0.7.0; 0.8.0 or newer is needed: upgrade it." in (missing("bwrap") or "")
    says("runsc version release-20210101.0")
    assert "20221219 or newer" in (missing("runsc") or "")


def test_a_program_without_a_version_is_refused(says: Callable[[str], None]) -> None:
    says("runsc version VERSION_MISSING")
    assert "does not say its version" in (missing("runsc") or "")
    assert written("runsc") == "unknown"


def test_new_programs_are_taken(says: Callable[[str], None]) -> None:
    says("bubblewrap 0.11.0")
    assert missing("bwrap") is None
    assert written("bwrap") == "0.11.0"


def test_a_program_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "installed", lambda program: None)
    assert "`apt-get install runsc`" in (missing("runsc") or "")
    assert version_of("/no/such/program") is None


@pytest.mark.system
def test_doctor_shows_the_versions() -> None:
    if named("bubblewrap").missing() is not None:
        pytest.skip("bubblewrap is not installed")
    reasons = {name: reason for name, ok, reason in doctor() if ok}
    assert f"bubblewrap {written('bwrap')}" in reasons["bubblewrap"]
