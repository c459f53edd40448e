"""Which stages may go."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.runs.command import call

pytestmark = [pytest.mark.assets, pytest.mark.model]


def test_stages_are_pruned_by_age_run_and_size(
    run: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    from results.pruning import chosen, entries, stages_of
    from results.stages import Stages

    shutil.copytree(home / "stages", tmp_path / "stages")
    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    found = entries(Stages(tmp_path / "stages"))
    needed = stages_of(run)
    assert needed <= {entry.name for entry in found}
    assert {name.split("/")[0] for name in needed} == {"expert", "composed", "outputs"}
    assert {entry.name for entry in chosen(found, of=needed)} == needed
    assert not {entry.name for entry in chosen(found, keep=needed)} & needed
    newest = found[-1].modified
    assert chosen(found, older_than=60, now=newest + 61) == found
    assert chosen(found, older_than=60, now=newest) == [one for one in found if newest - one.modified > 60]
    assert chosen(found, max_bytes=sum(one.bytes for one in found[1:])) == found[:1]
    assert call("clean", "--run", str(run)) == 0
    assert len(entries(Stages(tmp_path / "stages"))) == len(found)
    assert call("clean", "--run", str(run), "--delete") == 0
    assert len(entries(Stages(tmp_path / "stages"))) == len(found) - len(needed)
    assert call("clean", "--older-than", "soon") == 2


def test_what_may_be_under_way_is_not_pruned() -> None:
    from results.pruning import Entry, chosen

    under_way, left = (Entry(f"fit/{at}", Path(str(at)), 10, at, finished=False) for at in (100_000.0, 10.0))
    assert chosen([left, under_way], now=100_060.0) == [left]
    assert chosen([left, under_way], older_than=1, max_bytes=0, now=100_060.0) == [left]
