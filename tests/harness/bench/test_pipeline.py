"""Both sides of the pipeline benchmark score the same composed models on the same instances."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.bench.pipeline import METHODS
from harness.bench.pipeline_side import POOL, TASKS, Job, evaluated
from tasks import registry


def test_both_sides_agree(tiny_model: Path) -> None:
    methods = ("lora", "mixer", "phatgoose")
    ours, theirs = (
        evaluated(Job(side=side, methods=methods, model=str(tiny_model), data="bundled", items=2, batch=4))
        for side in ("ours", "theirs")
    )
    assert list(ours.scores) == list(methods)
    for method, tasks in theirs.scores.items():
        assert list(tasks) == list(TASKS)
        for task, scores in tasks.items():
            own = ours.scores[method][task]
            assert [pair[0] for pair in own] == pytest.approx([pair[0] for pair in scores], abs=1e-3)
            assert [pair[1] for pair in own] == [pair[1] for pair in scores]
    assert ours.scores["lora"]["sst2"] != ours.scores["mixer"]["sst2"]
    assert theirs.work > 2 * ours.work


def test_every_task_has_its_expert_in_the_pool() -> None:
    assert {registry.card(task).expert for task in TASKS} < set(POOL)
    assert len(METHODS) == 6
