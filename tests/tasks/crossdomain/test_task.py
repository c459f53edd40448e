"""The two tasks: where their rows come from, what they evaluate, and what they say without a set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks import conformance, registry
from tasks.base import TaskSettings, TaskUnavailable
from tasks.crossdomain import WithMadeSets, kinds
from tasks.judge import Judge, JudgeConfig
from tasks.sources import DirectorySource, Source
from tests.fake_endpoint import FakeEndpoint, Say, verdict


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A data directory with both sets."""
    for kind in kinds():
        folder = tmp_path / "crossdomain" / kind
        folder.mkdir(parents=True)
        rows = [
            {
                "id": f"{kind}-{i}",
                "question": f"A patient of {i} kg receives {i} mg of a drug; how much remains?",
                "answer": f"{i} mg",
                "solution": f"After {i} half-lives, {i} mg remain.",
                "topics": ["a", "b"],
                "model": "writer-1",
                "batch": i,
            }
            for i in range(30)
        ]
        (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "set.json").write_text("{}")
    return tmp_path


def test_every_kind_is_a_task() -> None:
    assert set(kinds()) == {"math-medical", "math-coding"} <= set(registry.names())


@pytest.mark.parametrize("kind", kinds())
def test_it_conforms(kind: str, made: Path) -> None:
    conformance.check(registry.create(kind).bind(DirectorySource(made), TaskSettings()))


def test_everything_is_evaluated_and_the_writer_is_named(made: Path) -> None:
    task = registry.create("math-medical").bind(DirectorySource(made), TaskSettings())
    assert {part: len(rows) for part, rows in task.parts.items()} == {
        "expert-train": 0,
        "router-train": 0,
        "dev": 0,
        "eval": 30,
    }
    assert task.deviations == [
        "test: 30 of 200 official rows.",
        "The questions were written by writer-1; the paper's own set is not published.",
    ]


def test_the_folder_of_a_set_is_a_source_too(made: Path) -> None:
    folder = made / "crossdomain" / "math-medical"
    task = registry.create("math-medical").bind(DirectorySource(folder), TaskSettings())
    assert len(task.eval_docs()) == 30


@pytest.mark.parametrize("kind", kinds())
def test_without_a_set_it_says_why_and_how_to_make_one(kind: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(TaskUnavailable) as refused:
        registry.create(kind).check(DirectorySource(tmp_path / "data"))
    assert f"The task {kind} is not in directory" in str(refused.value)
    assert f"`harness make-crossdomain {kind} --n 200" in str(refused.value)


def test_a_made_set_stands_beside_another_source(made: Path, tmp_path: Path, written: DirectorySource) -> None:
    both: Source = WithMadeSets(written, made)
    assert both.describe() == written.describe()
    assert len(registry.create("math-coding").bind(both, TaskSettings()).eval_docs()) == 30
    assert registry.create("arc-c").bind(both, TaskSettings()).fingerprint == (
        registry.create("arc-c").bind(written, TaskSettings()).fingerprint
    )
    none: Source = WithMadeSets(written, tmp_path / "nothing here")
    with pytest.raises(TaskUnavailable):
        registry.create("math-coding").check(none)


def test_answers_are_judged_by_the_rubric_for_two_domains(made: Path, endpoint: FakeEndpoint, tmp_path: Path) -> None:
    task = registry.create("math-medical").bind(DirectorySource(made), TaskSettings(limit=3))
    endpoint.answer = lambda *_: Say(verdict(70))
    task.judge = Judge(JudgeConfig(preset="generic", base_url=endpoint.url, model="m"), tmp_path / "cache")
    items = task.score_all(task.eval_docs(), [["7 mg"]] * 3)
    assert task.aggregate(items) == {"judge_score": (70.0, 3)}
    assert task.record_extra()["judge"]["judge"]["rubric"] == "cross-domain-v1"
    assert task.record_extra()["judge"]["exact_match"] is None
    assert "Final answer:" in endpoint.log[0].body["messages"][1]["content"]
