"""What is left of a run as a graph, and what list scheduling says of it."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.planning.backlog import Backlog
from harness.planning.config import resolve
from harness.planning.estimate import Work, evaluation_work
from harness.planning.graph import SCORE, Schedule, Unit, schedule, units
from harness.planning.plan import Plan
from harness.planning.sources import open_source
from results.ground.errors import HarnessError
from results.schema import RunInfo
from results.stages import COMPOSED, EXPERT, OUTPUTS, Stages
from results.store import RunFolder


@st.composite
def graphs(draw: st.DrawFn) -> list[Unit]:
    """Any acyclic graph of some units: each needs some of those before it, and the order is then shuffled."""
    count = draw(st.integers(0, 30))
    made: list[Unit] = []
    for at in range(count):
        needs = draw(st.sets(st.integers(0, at - 1), max_size=4)) if at else set()
        seconds = float(draw(st.integers(0, 50)))
        made.append(Unit(EXPERT, str(at), "", seconds, 0.0, tuple((EXPERT, str(need)) for need in sorted(needs))))
    return draw(st.permutations(made))


def near(value: float) -> float:
    return value + 1e-9 * max(1.0, abs(value))


@given(graphs(), st.integers(1, 40))
def test_the_makespan_is_within_grahams_bounds(some: list[Unit], workers: int) -> None:
    found = schedule(some, workers)
    assert found.work == sum(unit.seconds for unit in some)
    assert found.critical <= near(found.makespan)
    assert found.work / workers <= near(found.makespan)
    assert found.makespan <= near(found.work / workers + found.critical * (1 - 1 / workers))
    assert found.idle >= 0


@given(graphs())
def test_one_worker_takes_the_total_and_is_never_idle(some: list[Unit]) -> None:
    found = schedule(some, 1)
    assert found.makespan == found.work
    assert found.idle == 0


@given(graphs())
def test_a_worker_for_each_unit_takes_the_longest_chain(some: list[Unit]) -> None:
    found = schedule(some, max(1, len(some)))
    assert found.makespan == found.critical


def test_the_longest_chain_goes_first() -> None:
    """Two short units before the chain would end it at 6 + 4 rather than at 8."""
    chain = [Unit(EXPERT, "a", "", 4.0), Unit(COMPOSED, "b", "", 4.0, needs=((EXPERT, "a"),))]
    short = [Unit(EXPERT, f"short {n}", "", 2.0) for n in range(4)]
    assert schedule([*short, *chain], 2) == Schedule(2, 8.0, 16.0, 8.0)


def test_what_is_not_among_the_units_is_there_already() -> None:
    assert schedule([Unit(OUTPUTS, "o", "", 3.0, needs=((EXPERT, "stored"),))], 4).makespan == 3.0


def test_a_circle_is_said() -> None:
    circle = [Unit(EXPERT, "a", "", 1.0, needs=((EXPERT, "b"),)), Unit(EXPERT, "b", "", 1.0, needs=((EXPERT, "a"),))]
    with pytest.raises(HarnessError, match="circle"):
        schedule(circle, 2)


@pytest.mark.parametrize("workers", [0, -1, 1001])
def test_a_number_of_workers_that_cannot_be_is_refused(workers: int) -> None:
    with pytest.raises(HarnessError, match="from 1 to 1,000"):
        schedule([], workers)


def test_a_hundred_thousand_cells_on_a_thousand_workers_take_seconds() -> None:
    draw = random.Random(0)

    def some(kind: str, count: int, *needs: tuple[str, int, int]) -> list[Unit]:
        """Units that each need, of some kinds, so many of so many."""
        return [
            Unit(kind, f"{n}", "", draw.uniform(1, 9), needs=tuple(
                (needed, f"{draw.randrange(of)}") for needed, many, of in needs for _ in range(many)
            ))
            for n in range(count)
        ]  # fmt: skip

    experts, fits = some(EXPERT, 400), some(COMPOSED, 4_000, (EXPERT, 8, 400))
    cells = some(OUTPUTS, 100_000, (COMPOSED, 1, 4_000))
    scores = [Unit(SCORE, unit.key, "", needs=(unit.name,)) for unit in cells]
    started = time.process_time()
    found = schedule([*experts, *fits, *cells, *scores], 1000)
    assert time.process_time() - started < 20
    assert found.work / 1000 <= found.makespan <= found.work / 1000 + found.critical


def backlog(tiny_model: Path, tmp_path: Path, *methods: str) -> Backlog:
    asked = {
        "model": {"name": str(tiny_model)},
        "methods": list(methods),
        "tasks": ["sst2", "mrpc"],
        "seeds": [0, 1],
        "experts": {"names": ["sst2", "mrpc", "arc"]},
        "eval": {"limit": 2, "shots": 0},
    }
    plan = Plan(resolve("smoke", asked), open_source("bundled"))
    return Backlog(plan, Stages(tmp_path / "stages"), RunFolder(tmp_path / "run", RunInfo(name="run")))


def tokens(work: Work) -> float:
    return work.equivalent


@pytest.mark.assets
def test_units_come_after_what_they_need_and_each_stage_is_one(tiny_model: Path, tmp_path: Path) -> None:
    left = backlog(tiny_model, tmp_path, "base", "uniform", "mixer")
    found = units([(left, tokens), (left, tokens)])
    kinds = Counter(unit.kind for unit in found)
    # An untrained base is the same for every seed; experts, averages and routers are not.
    assert kinds == {EXPERT: 3 * 2, COMPOSED: 2, OUTPUTS: 2 + 2 * 2 + 2 * 2, SCORE: 3 * 2 * 2}
    places = {unit.name: at for at, unit in enumerate(found)}
    assert all(places[need] < at for at, unit in enumerate(found) for need in unit.needs)
    by_label = {(unit.label, unit.kind): {kind for kind, _ in unit.needs} for unit in found}
    assert by_label["base on sst2", OUTPUTS] == set()
    assert by_label["uniform on sst2", OUTPUTS] == {EXPERT}
    assert by_label["fit mixer", COMPOSED] == {EXPERT}
    assert by_label["mixer on sst2", OUTPUTS] == {COMPOSED}
    assert by_label["score mixer on sst2", SCORE] == {OUTPUTS}


@pytest.mark.assets
def test_a_look_at_one_moment_asks_for_each_stage_and_record_once(tiny_model: Path, tmp_path: Path) -> None:
    left = backlog(tiny_model, tmp_path, "base", "uniform", "mixer")
    asked: Counter[tuple[str, ...]] = Counter()
    look, over = left.look, left.over

    def looked(*place: str) -> Path | None:
        asked[place] += 1
        return look(*place)

    def finished(cell: str) -> bool:
        asked[(cell,)] += 1
        return over(cell)

    left.look, left.over = looked, finished
    now = left.now()
    found = [(now.missing_experts(), now.groups(), list(map(now.state, now.plan.cells))) for _ in range(3)]
    assert found[0] == found[1] == found[2]
    assert set(asked.values()) == {1}
    assert (left.missing_experts(), left.groups(), list(map(left.state, left.plan.cells))) == found[0]
    assert max(asked.values()) > 2  # asked again, it looks again


@pytest.mark.assets
def test_what_is_stored_is_no_unit_and_is_not_waited_for(tiny_model: Path, tmp_path: Path) -> None:
    left = backlog(tiny_model, tmp_path, "uniform", "mixer")
    stages = Stages(tmp_path / "stages")
    for expert in left.missing_experts():
        with stages.create(EXPERT, expert.key):
            pass
    first = next(cell for cell in left.plan.cells if cell.spec.method == "mixer")
    with stages.create(OUTPUTS, first.outputs_key):
        pass
    found = units([(left, tokens)])
    assert EXPERT not in {unit.kind for unit in found}
    assert all(unit.needs == () for unit in found if unit.kind == COMPOSED or unit.label.startswith("uniform"))
    assert (OUTPUTS, first.outputs_key) not in {unit.name for unit in found}
    assert next(unit for unit in found if unit.key == first.key).needs == ()


@pytest.mark.assets
def test_a_unit_costs_what_the_estimate_of_its_work_says(tiny_model: Path, tmp_path: Path) -> None:
    left = backlog(tiny_model, tmp_path, "ensemble")
    found = {unit.key: unit.seconds for unit in units([(left, tokens)])}
    for cell in left.plan.cells:
        assert found[cell.outputs_key] == pytest.approx(evaluation_work(cell).equivalent)
