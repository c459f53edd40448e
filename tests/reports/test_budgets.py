"""What fits really used stands under every table, row by row."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from reports.budgets import sentences
from reports.notes import budget_sentence, provenance
from results.schema import Record


def phase(name: str = "routers", **changes: Any) -> dict[str, Any]:
    shares = {"arc-e": 0.25, "gsm8k": 0.25, "sst2": 0.5}
    plain = {"phase": name, "steps": 26, "examples": 104, "tokens": 7936, "lr": {"routers": 0.01}, "weigh": "examples"}
    return {**plain, "shares": shares, **changes}


def fitted(factory: ModuleType, method: str, phases: list[dict[str, Any]], seed: int = 0, task: str = "sst2") -> Record:
    return factory.make_record(method, task, seed).model_copy(update={"extra": {"fit": phases}})


def test_each_row_says_its_steps_examples_tokens_and_rate(factory: ModuleType) -> None:
    gates = [
        phase(
            f"gates of {n}", steps=steps, examples=4 * steps, tokens=100 * steps, lr={"routers": 0.005}, shares={n: 1.0}
        )
        for n, steps in (("sst2", 15), ("arc", 9), ("gsm8k", 3))
    ]
    search = [{"phase": "search on task:sst2", "steps": 0, "evaluations": 40, "examples": 5, "tokens": 311, "lr": {}}]
    joint = [phase("joint", steps=248, examples=990, tokens=54_000, lr={"routers": 1e-2, "experts": 5e-4})]
    records = [
        fitted(factory, "mixer", [phase()]),
        fitted(factory, "mixer", [phase()], task="mrpc"),
        fitted(factory, "mixer", [phase(examples=102, tokens=7990)], seed=1),
        fitted(factory, "phatgoose", gates),
        fitted(factory, "lorahub", search),
        fitted(factory, "mixlora", joint),
        factory.make_record("base"),
    ]
    assert sentences(records) == [
        "Fits used: mixer 26 steps (102 to 104 examples, 7,936 to 7,990 tokens, rate 0.01); "
        "phatgoose 3 phases of 3 to 15 steps, together 108 examples, 2,700 tokens (rate 0.005); "
        "lorahub 40 evaluations of 5 examples, 311 tokens, no steps; "
        "mixlora 248 steps (990 examples, 54,000 tokens, rate of routers 0.01, rate of experts 0.0005).",
        "Shares of the task loss, weighed by examples: arc-e 25 %, gsm8k 25 %, sst2 50 %.",
    ]
    assert sentences(records)[0] in provenance(records)


def test_unlike_shares_name_their_rows(factory: ModuleType) -> None:
    records = [
        fitted(factory, "mixer", [phase()]),
        fitted(factory, "mole", [phase(weigh="tokens", shares={"gsm8k": 0.55, "sst2": 0.45})]),
    ]
    assert sentences(records)[1:] == [
        "Shares of the task loss of mixer, weighed by examples: arc-e 25 %, gsm8k 25 %, sst2 50 %.",
        "Shares of the task loss of mole, weighed by tokens: gsm8k 55 %, sst2 45 %.",
    ]


def test_records_of_earlier_versions_say_nothing(factory: ModuleType) -> None:
    assert sentences([factory.make_record("mixer")]) == []


def test_a_cap_in_tokens_stands_beside_one_in_examples(factory: ModuleType) -> None:
    """2,000 examples of which a cap lets 909 tokens through are not 2,000 examples."""
    record = factory.make_record()
    both = record.budget.model_copy(update={"router_examples": 2000, "router_tokens": 909})
    only = record.budget.model_copy(update={"router_examples": 2000, "router_tokens": 0})
    assert ", 2,000 examples within 909 tokens for routers," in budget_sentence(
        [record.model_copy(update={"budget": both})]
    )
    assert ", 2,000 examples for routers," in budget_sentence([record.model_copy(update={"budget": only})])


def test_a_budget_of_experts_is_said_where_one_was_spent(factory: ModuleType) -> None:
    base, routed = factory.make_record("base"), factory.make_record("mixer")
    base = base.model_copy(
        update={
            "spec": base.spec.model_copy(update={"pool": {}}),
            "parameters": base.parameters.model_copy(update={"trainable": {}}),
        }
    )
    places = [
        {"name": name, "place": f"./{name}", "revision": digest, "base": None}
        for name, digest in routed.spec.pool.items()
    ]
    assert places
    assert "an expert" in budget_sentence([base, routed])
    assert "an expert" not in budget_sentence([base, routed.model_copy(update={"extra": {"brought": places}})])
    some = routed.model_copy(update={"extra": {"brought": places[1:]}})
    assert "an expert" in budget_sentence([base, some])
    joint = base.model_copy(update={"parameters": routed.parameters.model_copy(update={"trainable": {"experts": 8}})})
    assert "an expert" in budget_sentence([joint])


def test_rows_that_used_the_same_are_said_together(factory: ModuleType) -> None:
    used = "(104 examples, 7,936 tokens, rate 0.01)"
    mixer, mole = (fitted(factory, method, [phase()]) for method in ("mixer", "mole"))
    other = fitted(factory, "phatgoose", [phase(steps=15)])
    assert sentences([mixer, mole])[0] == f"Fits used, each: 26 steps {used}."
    assert sentences([mixer, other, mole])[0] == f"Fits used: mixer, mole 26 steps {used}; phatgoose 15 steps {used}."
