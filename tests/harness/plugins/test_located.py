"""Files and sources on the command line: plain names and absolute paths after; mistakes are one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.planning.config import resolve
from harness.planning.plugins import bring, located
from harness.planning.sources import anchored_data, open_source, parse_data
from results.ground.errors import HarnessError
from tasks import registry
from tasks.base import TaskSettings
from tasks.sources import MixedSource


def test_files_become_names_and_absolute_paths(tmp_path: Path) -> None:
    values = {"methods": ["./r.py[k=2]", "mixer"], "tasks": ["q.jsonl@5-shot", "gsm8k"], "include": ["t.yaml"]}
    assert located(values, tmp_path) == {
        "methods": ["r[k=2]", "mixer"],
        "tasks": ["q@5-shot", "gsm8k"],
        "include": [f"{tmp_path}/t.yaml", f"{tmp_path}/r.py", f"{tmp_path}/q.jsonl"],
    }
    assert located(located(values, tmp_path), Path("/elsewhere")) == located(values, tmp_path)


def test_paths_start_at_the_configuration_file_or_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "mine.yaml").write_text("extends: smoke\nmethods: [./r.py]\n")
    monkeypatch.chdir(tmp_path)
    config = resolve("conf/mine.yaml", {"tasks": ["./q.csv"]})
    assert config.methods == ("r",)
    assert config.tasks == ("q",)
    assert config.include == (str(tmp_path / "conf/r.py"), str(tmp_path / "q.csv"))


def test_what_is_no_plug_in_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"write --include a.yaml --tasks NAME"):
        located({"tasks": ["a.yaml"]}, tmp_path)
    with pytest.raises(HarnessError, match=r"is no method .* and no task"):
        bring([str(tmp_path / "a.txt")])


def test_data_is_read_in_parts(tmp_path: Path) -> None:
    assert parse_data("bundled,gsm8k=DIR,arc=hub") == ("bundled", {"gsm8k": "DIR", "arc": "hub"})
    assert parse_data("gsm8k=DIR") == ("bundled", {"gsm8k": "DIR"})
    assert anchored_data("hub,gsm8k=DIR", tmp_path) == f"hub,gsm8k={tmp_path}/DIR"
    assert anchored_data("bundled", tmp_path) == "bundled"
    for wrong, message in (
        ("bundled,hub", "several sources for all sets"),
        ("arc=a,arc=b", "stands twice"),
        ("arc=", "needs the form SET=SOURCE"),
    ):
        with pytest.raises(HarnessError, match=message):
            parse_data(wrong)


@pytest.mark.assets
def test_one_table_mixes_sources(tmp_path: Path) -> None:
    folder = tmp_path / "gsm8k" / "main"
    folder.mkdir(parents=True)
    rows = [{"question": f"How many are {i}?", "answer": f"#### {i}"} for i in range(30)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = open_source(f"bundled,gsm8k={tmp_path}")
    assert isinstance(source, MixedSource)
    mine = registry.create("gsm8k").bind(source, TaskSettings())
    theirs = registry.create("sst2").bind(source, TaskSettings())
    assert (mine.source, mine.origin, theirs.source) == ("dir", "gsm8k/main", "bundled")
    with pytest.raises(HarnessError, match=r"The task arc-c reads the set arc"):
        open_source(f"bundled,arc-c={tmp_path}")
    with pytest.raises(HarnessError, match=r"Unknown set of --data 'gms8k': did you mean gsm8k"):
        open_source(f"bundled,gms8k={tmp_path}")
