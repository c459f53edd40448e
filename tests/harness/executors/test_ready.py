"""Which unit a worker takes next."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.executors.ready import Ready
from harness.planning.graph import SCORE, Unit
from results.ground.errors import HarnessError
from results.stages import COMPOSED, EXPERT, OUTPUTS


def unit(kind: str, key: str, *needs: Unit, seconds: float = 1.0) -> Unit:
    return Unit(kind, key, key, seconds, 0.0, tuple(need.name for need in needs))


@st.composite
def graphs(draw: st.DrawFn) -> list[Unit]:
    made: list[Unit] = []
    for at in range(draw(st.integers(0, 25))):
        needs = draw(st.sets(st.integers(0, at - 1), max_size=3)) if at else set()
        made.append(unit(EXPERT, str(at), *(made[need] for need in sorted(needs)), seconds=draw(st.integers(0, 9))))
    return draw(st.permutations(made))


@given(graphs(), st.randoms(use_true_random=False), st.sampled_from(["", "0", "1"]))
def test_every_unit_is_taken_once_after_all_that_it_needs(some: list[Unit], dice: random.Random, held: str) -> None:
    ready = Ready(some, lambda one: (one.key[-1],))
    done: set[tuple[str, str]] = set()
    running: list[Unit] = []
    while ready.open:
        while dice.random() < 0.7 and (taken := ready.take((held,))) is not None:
            assert set(taken.needs) <= done
            running.append(taken)
        if running:
            ended = running.pop(dice.randrange(len(running)))
            if dice.random() < 0.2:
                ready.again(ended)
                continue
            assert ended.name not in done
            done.add(ended.name)
            ready.done(ended)
    assert done == {one.name for one in some}
    assert ready.take() is None


def test_what_a_worker_holds_comes_first_then_scores_then_the_longest_chain() -> None:
    long, short = unit(EXPERT, "long", seconds=9.0), unit(EXPERT, "short")
    akin, score = unit(OUTPUTS, "akin", seconds=0.1), unit(SCORE, "score")
    ready = Ready([short, long, akin, score], lambda one: ("model",) if one is akin else ())
    assert [one.key for one in iter(lambda: ready.take(("model", "base")), None)] == ["akin", "score", "long", "short"]


def test_a_failure_takes_what_needs_it_along_and_leaves_scores_to_say_so() -> None:
    expert, other = unit(EXPERT, "expert"), unit(EXPERT, "other")
    fit = unit(COMPOSED, "fit", expert, other)
    outputs = unit(OUTPUTS, "outputs", fit)
    score, apart = unit(SCORE, "score", outputs), unit(OUTPUTS, "apart", other)
    ready = Ready([expert, other, fit, outputs, score, apart])
    assert {one.key for one in iter(ready.take, None)} == {"expert", "other"}
    ready.failed(expert, "too small")
    assert ready.why == {one.name: "too small" for one in (expert, fit, outputs, score)}
    ready.done(other)
    assert [one.key for one in iter(ready.take, None)] == ["score", "apart"]
    ready.done(score)
    ready.done(apart)
    assert ready.open == 0


def test_a_circle_is_refused() -> None:
    one, other = Unit(EXPERT, "a", "", 1.0, 0.0, ((EXPERT, "b"),)), Unit(EXPERT, "b", "", 1.0, 0.0, ((EXPERT, "a"),))
    with pytest.raises(HarnessError, match="circle"):
        Ready([one, other])


def test_a_hundred_thousand_units_are_handed_out_in_seconds() -> None:
    some = [unit(OUTPUTS, str(at)) for at in range(100_000)]
    ready = Ready(some, lambda one: (one.key[-1], "base"))
    held: tuple[str, ...] = ()
    while (taken := ready.take(held)) is not None:
        held = (taken.key[-1], "base")
        ready.done(taken)
    assert ready.open == 0
