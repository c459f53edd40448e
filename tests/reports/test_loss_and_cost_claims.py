"""Claims on weights, balance, k, time and memory: each has a rule that stands before a run, and follows it."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest

from reports.catalogue import entry
from reports.catalogue.entries import claim_rules
from reports.claims import FAMILY, claims, table
from reports.evidence import COMPATIBLE, EXCLUDED, Claim
from results.schema import Item, Record

Found = tuple[list[Record], dict[str, list[Item]]]


def judged(records: Sequence[Record], items: dict[str, list[Item]], name: str) -> Claim:
    return next(claim for claim in claims(records, items) if claim.name == name)


def grid(factory: ModuleType, rates: dict[str, float], task: str = "sst2", n: int = 300, **fields: Any) -> Found:
    """Three seeds of every method, right on its first items."""
    records, items = [], {}
    for method, rate in rates.items():
        for seed in (0, 1, 2):
            right = round(rate * n) + seed - 1
            record = factory.make_record(method, task, seed, n=n, value=right / n, **fields)
            records.append(record)
            items[record.cell] = factory.make_items([1.0] * right + [0.0] * (n - right), task)
    return records, items


def test_every_claim_that_is_no_gain_has_a_rule_and_the_table_says_it() -> None:
    names = {claim.name for claim in claims([], {})}
    assert set(claim_rules()) == {name for name in names if "/" not in name}
    notes = table([], {}).notes
    for name in claim_rules():
        assert any(note.startswith(f"Rule of {name}, fixed in advance: ") for note in notes)


def test_claims_of_the_abstract_are_all_judged() -> None:
    names = {claim.name for claim in claims([], {})}
    assert {f"t21/mixer/phatgoose/{task}" for task in ("gsm8k", "cola", "arc-c")} <= names
    assert {"t8/mixer/mixer-aux", "t5/mixer/base", "parameters", "data"} <= names
    assert {"t8/mixer/mixer-aux", "t5/mixer/base"} <= FAMILY


def test_moved_parameters_are_found_by_where_they_come_from(factory: ModuleType) -> None:
    fields = {"task": "arc-e", "task_config": {"shots": 0}}
    records, items = grid(factory, {"base": 0.7, "mixer[transfer.from=./other]": 0.5}, **fields)
    claim = judged(records, items, "t5/mixer/base")
    assert claim.verdict == "contradicted"
    assert claim.gain == pytest.approx(-2.56)  # on arc-e, which alone was run
    assert claim.size.endswith(": −2.56 points on what was run")
    assert judged([], {}, "t5/mixer/base").gain == pytest.approx((1.21 + 0.38 + 2.79 - 2.56 + 0.49) / 5)


@pytest.mark.parametrize(("rates", "verdict"), [((0.5, 0.8, 0.5), "supported"), ((0.9, 0.5, 0.5), "contradicted"),
                                                ((0.5, 0.5, 0.5), "undetermined")])  # fmt: skip
def test_the_best_weights(factory: ModuleType, rates: tuple[float, ...], verdict: str) -> None:
    methods = [method for method in entry("t15").methods if "over_routers" not in method]
    records, items = grid(factory, dict(zip(methods, rates, strict=True)))
    claim = judged(records, items, "weights")
    assert claim.verdict == verdict
    assert bool(claim.decides) == (verdict == "undetermined")


@pytest.mark.parametrize(("slope", "verdict"), [(-1.0, "supported"), (1.0, "contradicted"), (0.0, "undetermined")])
def test_the_balance_loss_drops(factory: ModuleType, slope: float, verdict: str) -> None:
    records = []
    for seed in (0, 1, 2):
        wobble = (seed - 1) * 0.01
        log = [{"step": step, "aux": 1.0 + (slope + wobble) * step / 50} for step in range(50)]
        records.append(factory.make_record("mixer", "sst2", seed, n=1, training_log=log))
    items = {record.cell: factory.make_items([1.0]) for record in records}
    assert judged(records, items, "balance").verdict == verdict
    assert judged(records[:1], items, "balance").verdict == "undetermined"


def test_more_than_three_experts(factory: ModuleType) -> None:
    records, items = [], {}
    for k, rate in ((2, 0.9), (3, 0.8), (4, 0.6), (5, 0.5)):
        more = grid(factory, {f"mixer[route.eval_k={k},route.train_k={k}]": rate},
                    config={"route": {"eval_k": k, "train_k": k}})  # fmt: skip
        records, items = records + more[0], {**items, **more[1]}
    assert judged(records, items, "top-k-beyond").verdict == "supported"
    assert judged(records, items, "top-k").verdict == "contradicted"
    few = [record for record in records if record.spec.method_config["route"]["eval_k"] <= 3]
    assert judged(few, items, "top-k-beyond").verdict == "not measured"


@pytest.mark.parametrize(
    ("factor", "verdict", "size"), [(0.96, "supported", COMPATIBLE), (1.5, "contradicted", EXCLUDED)]
)
def test_time_by_seed_on_one_machine(factory: ModuleType, factor: float, verdict: str, size: str) -> None:
    records = []
    for seed, noise in ((0, 0.999), (1, 1.0), (2, 1.003)):
        for method, seconds in (("mixlora", 10.0), ("mixer-joint", 10.0 * factor * noise)):
            record = factory.make_record(method, "gsm8k", seed, n=10)
            cost = record.cost.model_copy(update={"seconds": {"evaluate": seconds}})
            records.append(record.model_copy(update={"cost": cost}))
    items = {record.cell: factory.make_items([1.0] * 10) for record in records}
    claim = judged(records, items, "time")
    assert (claim.verdict, claim.size) == (verdict, size)
    other = [
        r.model_copy(update={"environment": r.environment.model_copy(update={"hardware": r.spec.method})})
        for r in records
    ]
    assert judged(other, items, "time").verdict == "not measured"


def test_memory_that_is_equal_in_every_seed_is_judged(factory: ModuleType) -> None:
    records = []
    for seed in (0, 1, 2):
        for method, peak in (("mixlora", 4307), ("mixer-joint", 3848)):
            record = factory.make_record(method, "sst2", seed, n=1)
            cost = record.cost.model_copy(update={"peak_memory": {"fit": peak}})
            records.append(record.model_copy(update={"cost": cost}))
    items = {record.cell: factory.make_items([1.0]) for record in records}
    claim = judged(records, items, "memory")
    assert (claim.verdict, claim.size) == ("supported", COMPATIBLE)
