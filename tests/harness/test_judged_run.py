"""A judged task through the whole engine: refused, judged, judged again without a model; no key is stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.assets import cache_root
from results.schema import Item, Record
from results.store import RunFolder
from tests.fake_endpoint import FakeEndpoint, Say, verdict
from tests.harness.runs.command import printed
from tests.tasks.judge.test_secrets import everything_written

pytestmark = [pytest.mark.assets, pytest.mark.model]

TASK = "medqa-5opt-judged"
KEY = "sk-canary-5d1c7e90"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own that shares the fetched assets and holds the stages, and a key in the environment."""
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "assets").symlink_to(cache_root() / "assets")
    monkeypatch.setenv("HARNESS_CACHE", str(folder))
    monkeypatch.setenv("CANARY_KEY", KEY)
    monkeypatch.delenv("HARNESS_STAGES", raising=False)
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    return folder


def only_cell(run: Path) -> tuple[Record, list[Item]]:
    folder = RunFolder.open(run)
    (cell,) = [planned.cell for planned in folder.info.cells]
    record = folder.record(cell)
    assert record is not None
    assert record.status == "done", record.error
    return record, folder.items(cell)


def test_judged_and_judged_again(tiny_model: Path, endpoint: FakeEndpoint, cache: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["run", "--methods", "base", "--tasks", TASK, "--preset", "smoke", "--model", str(tiny_model)]
    arguments += ["--output", str(run)]

    refused = printed(*arguments)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith(f"harness: The task {TASK} needs a judge: use --set judge.preset")
    no_key = printed(*arguments, "--set", "judge.preset=deepseek")
    assert no_key.returncode == 2
    assert "set DEEPSEEK_API_KEY, or start a server" in no_key.stderr
    assert not run.exists()
    assert not (cache / "stages").exists()

    endpoint.answer = lambda question, nth, body: Say(
        verdict(30 if body["model"] == "first" else 70, f"seen {KEY}"), model=f"{body['model']}-2026-01"
    )
    judge = ["judge.preset=generic", f"judge.base_url={endpoint.url}", "judge.api_key_env=CANARY_KEY"]
    sets = [part for text in (*judge, "judge.model=first", "judge.repeats=2") for part in ("--set", text)]
    done = printed(*arguments, *sets)
    assert done.returncode == 0, done.stderr
    record, items = only_cell(run)
    assert record.metrics["judge_score"].value == 30
    assert record.extra["judge"]["models"] == {"first-2026-01": 8}
    assert record.extra["judge"]["judge"]["rubric"] == "medical-v1"
    assert f"{TASK}: judged by first-2026-01 with the rubric medical-v1." in done.stdout
    assert f"{TASK}: judge and exact match say the same of base (seed 0)" in done.stdout
    assert len(endpoint.log) == 8
    assert {asked.headers["authorization"] for asked in endpoint.log} == {f"Bearer {KEY}"}

    endpoint.log.clear()
    again = printed("rescore", str(run), "--task", TASK, "--set", "judge.model=second")
    assert again.returncode == 0, again.stderr
    other, rescored = only_cell(run)
    assert (other.metrics["judge_score"].value, other.extra["judge"]["models"]) == (70, {"second-2026-01": 8})
    assert other.cell != record.cell, "scores of two judges are two cells"
    assert [item.outputs for item in rescored] == [item.outputs for item in items]
    assert {asked.body["model"] for asked in endpoint.log} == {"second"}

    endpoint.log.clear()
    assert printed("rescore", str(run), "--task", TASK).returncode == 0
    assert endpoint.log == [], "what was paid for is read from the cache"

    for folder in (run, cache / "judge", cache / "stages"):
        written = everything_written(folder)
        assert written
        assert KEY.encode() not in written
    for said in (done, again):
        assert KEY not in said.stdout + said.stderr
    assert b"[key]" in everything_written(cache / "judge")
