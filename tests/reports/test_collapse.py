"""A router that did not come to route is announced under the table."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from reports.collapse import sentences
from reports.notes import provenance
from results.schema import Parameters, Record

TASKS = ("sst2", "mrpc", "arc-e")


def records(factory: ModuleType, method: str, *, seed: int = 0, **changes: Any) -> list[Record]:
    """A row's records on three tasks, with its routing changed: a value for all tasks, or one for each."""
    made = []
    for index, task in enumerate(TASKS):
        own = {key: value[index] if isinstance(value, tuple) else value for key, value in changes.items()}
        routing = factory.make_routing(task, seed).model_copy(update=own)
        made.append(factory.make_record(method, task, seed, routing=routing))
    return made


def test_routers_that_route_are_not_mentioned(factory: ModuleType) -> None:
    healthy = records(factory, "mixer") + records(factory, "mole", seed=1)
    assert sentences(healthy) == []
    assert sentences([factory.make_record("base")]) == []


def test_a_collapsed_router_is_announced_with_its_entropy(factory: ModuleType) -> None:
    found = sentences(
        records(factory, "mixer")
        + records(factory, "xlora[scope=prompt_fixed]", entropy=0.0)
        + records(factory, "mole", entropy=(0.02, 0.12, 0.07))
        + records(factory, "mole", seed=1, entropy=0.2)
        + records(factory, "arrow", entropy=0.1)
    )
    assert found == [
        "Collapsed routers (mean H(p)/ln N below 0.1; each token goes to hardly more than one expert): "
        "xlora[scope=prompt_fixed] (0.00 with seed 0); mole (0.07 with seed 0)."
    ]


def test_routing_that_is_the_same_for_all_tasks_is_announced(factory: ModuleType) -> None:
    by_mass = records(factory, "mixer", own_expert_mass=(0.250, 0.252, 0.254))
    by_load = records(factory, "mole", load=[0.7, 0.1, 0.1, 0.1])
    told = records(factory, "gmoe", own_expert_mass=(0.250, 0.252, 0.256))
    (found,) = sentences(by_mass + by_load + told)
    assert found.startswith("Routing that does not tell tasks apart")
    assert found.endswith(": mixer (seed 0); mole (seed 0).")
    assert sentences(by_load[:1]) == []


def test_what_was_never_trained_treats_tasks_alike_by_design(factory: ModuleType) -> None:
    row = records(factory, "random", load=[0.25] * 4, own_expert_mass=0.25, logit_shift=0.0)
    untrained = [one.model_copy(update={"parameters": Parameters(trainable={}, stored={})}) for one in row]
    assert sentences(untrained) == []


def test_a_fit_that_moved_no_router_is_announced(factory: ModuleType) -> None:
    (found,) = sentences(records(factory, "mixer", logit_shift=0.0) + records(factory, "mole", logit_shift=1e-3))
    assert found.startswith("Routers that their fit did not move")
    assert found.endswith(": mixer (seed 0).")


def test_the_announcement_stands_under_tables(factory: ModuleType) -> None:
    row = records(factory, "mole", entropy=0.01)
    assert any(note.startswith("Collapsed routers") for note in provenance(row))
