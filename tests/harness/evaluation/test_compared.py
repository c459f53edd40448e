"""A cell that was computed twice: equal, apart by rounding, or different, whatever was made up of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from harness.evaluation.compared import BITS, LIMITS, TURNED, Comparison, compared
from harness.sharing.slim import slim_items
from results.schema import Item, Metric, Parameters, Record
from tests.reports.factory import make_routing
from tests.results.test_store import make_record

N = 200
EQUAL = Comparison()


@dataclass
class Quiz:
    """A bound task of two choices or three, or of one answer (`choices` 1) that is greedy or not."""

    choices: int = 2
    prompts: bool = True
    own: bool = False
    groups: dict[str, str] = field(default_factory=dict)
    metrics: tuple[Any, ...] = (SimpleNamespace(name="acc", higher_is_better=True, unit="fraction"),)

    def eval_docs(self) -> list[Any]:
        return [SimpleNamespace(id=f"i{n}", gold=n % 2) for n in range(N)]

    def requests(self, doc: Any, seed: int) -> list[Any]:
        return [
            SimpleNamespace(
                context=f"row {doc.id}" if self.prompts else "", continuation=name + (doc.id if self.own else "")
            )
            for name in (" no", " yes", " maybe")[: self.choices]
        ]

    def score_all(self, docs: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
        return [self.score(doc, own) for doc, own in zip(docs, outputs, strict=True)]

    def score(self, doc: Any, outputs: Sequence[Any]) -> Any:
        values = [value for value, _ in outputs]
        chosen = values.index(max(values))
        right = float(outputs[0][1]) if self.choices == 1 else float(chosen == doc.gold)
        extra = {} if self.choices == 1 else {"gold_index": doc.gold, "predicted_index": chosen}
        names = ("no", "yes", "maybe")
        return SimpleNamespace(gold=names[doc.gold], prediction=names[chosen], metrics={"acc": right}, extra=extra)

    def aggregate(self, scored: Sequence[Any]) -> dict[str, tuple[float, int]]:
        values = [one.metrics["acc"] for one in scored]
        return {"acc": (sum(values) / len(values), len(values))}


@pytest.fixture
def cell() -> Any:
    return cell_of(Quiz())


def cell_of(quiz: Quiz) -> Any:
    return SimpleNamespace(task=SimpleNamespace(bound=quiz), seed=0)


Made = tuple[Record, list[Item]]


def made(cell: Any, outputs: Sequence[list[list[Any]]] | None = None) -> Made:
    """What comes of outputs; by default the likelihoods of the two choices are from 1 to 2 nats apart, some right."""
    from harness.records import outcomes

    outputs = outputs or [
        [[-1.0 - (n % 7) / 6, False], [-1.53 - (n % 5) / 4, True]][: cell.task.bound.choices] for n in range(N)
    ]
    metrics, items = outcomes(cell, [{"outputs": own, "gold_loglikelihood": None} for own in outputs])
    return make_record().model_copy(update={"metrics": metrics}), items


def moved(outputs: Sequence[list[list[Any]]], by: Callable[[int, int], float]) -> list[list[list[Any]]]:
    """Outputs whose likelihoods are higher by a number of item and choice."""
    return [
        [[value + by(n, choice), flag] for choice, (value, flag) in enumerate(own)] for n, own in enumerate(outputs)
    ]


def outputs_of(one: Made) -> list[Any]:
    return [item.outputs for item in one[1]]


def changed(one: Made, *, metrics: dict[str, float | None] | None = None, **fields: Any) -> Made:
    """The same with other metrics or fields of every item, and the mean of its metrics."""
    record, items = one
    items = [item.model_copy(update={**fields, "metrics": item.metrics | (metrics or {})}) for item in items]
    means = {
        name: Metric(
            value=value, n=len(items), **({"unit": "bits/byte", "higher_is_better": False} if name == BITS else {})
        )
        for name, value in (metrics or {}).items()
        if value is not None
    }
    return record.model_copy(update={"metrics": {**record.metrics, **means}}), items


def test_what_is_equal_to_rounding_in_the_last_digits_is_equal(cell: Any) -> None:
    stored = made(cell)
    assert compared(cell, *stored, *stored) == EQUAL
    assert compared(cell, *made(cell, moved(outputs_of(stored), lambda n, _: 1e-7 * (-1) ** n)), *stored) == EQUAL


def test_small_differences_without_a_sign_are_rounding(cell: Any) -> None:
    again = made(cell)
    found = compared(cell, *made(cell, moved(outputs_of(again), lambda n, c: 0.01 * (-1) ** (n // 2 + c))), *again)
    assert found.differences == ()
    assert found.rounding.startswith("0 of 200 items have another outcome, 0.01 nats apart in the mean, 0.01 at most")


def test_a_likelihood_of_all_choices_may_move_together(cell: Any) -> None:
    """It cancels in every outcome."""
    again = made(cell)
    assert compared(cell, *made(cell, moved(outputs_of(again), lambda n, c: 0.04)), *again).rounding


def to_gold(n: int, choice: int) -> float:
    return 1.0 if choice == n % 2 else -1.0


@pytest.mark.parametrize(
    "by",
    [
        lambda n, c: 0.02 * to_gold(n, c),  # in the mean within the limit, and to the gold choice
        lambda n, c: LIMITS["nats"].most * 1.1 if n == 0 else 0.0,
        lambda n, c: LIMITS["nats"].mean * 1.1 * (-1) ** (n // 2 + c),
    ],
    ids=["towards the gold choice", "one far", "all a little far"],
)
def test_more_is_a_difference(cell: Any, by: Callable[[int, int], float]) -> None:
    again = made(cell)
    found = compared(cell, *made(cell, moved(outputs_of(again), by)), *again)
    assert found.rounding == ""
    assert any("other outputs" in sentence for sentence in found.differences)


def test_few_items_may_turn_and_not_many(cell: Any) -> None:
    """Near ties turn by next to nothing; a score that is made of them is no rounding."""
    ties = [[[-1.0, False], [-1.0 - 1e-3, False]] for _ in range(N)]
    again = made(cell, ties)
    few, many = int(TURNED * N), int(TURNED * N) + 1

    def turned(count: int) -> Made:
        return made(cell, moved(ties, lambda n, c: 2e-3 * c if n < count else 0.0))

    assert compared(cell, *turned(few), *again).rounding.startswith(f"{few} of {N} items have another outcome")
    assert compared(cell, *turned(many), *again).rounding == ""


def near(cell: Any, again: Made) -> Made:
    """Apart from `again` by rounding."""
    return made(cell, moved(outputs_of(again), lambda n, c: 1e-3 * (-1) ** (n // 2 + c)))


MADE_UP: dict[str, dict[str, Any]] = {
    "outcomes": {"metrics": {"acc": 1.0}},
    "a metric that nothing scores": {"metrics": {"gold_logprob": -0.01}},
    "bits per byte of a task that has none": {"metrics": {BITS: 0.1}},
    "the place of the gold answer": {"extra": {"gold_index": 0, "predicted_index": 0}},
    "the gold answer": {"gold": "yes"},
    "the prediction": {"prediction": "yes"},
    "groups": {"group": "g"},
    "likelihoods that are none": {"outputs": [[None, True], [-1.0, False]]},
    "one likelihood too few": {"outputs": [[-1.0, True]]},
    "flags in place of likelihoods": {"outputs": [True, False]},
    "a likelihood that no float holds": {"outputs": [[10**400, True], [-1.0, False]]},
}


@pytest.mark.parametrize("what", MADE_UP)
@pytest.mark.parametrize("texts", [True, False], ids=["with texts", "published"])
@pytest.mark.parametrize("rounded", [True, False], ids=["rounded", "equal"])
def test_what_is_made_up_is_a_difference(cell: Any, what: str, texts: bool, rounded: bool) -> None:
    again = made(cell)
    record, items = changed(near(cell, again) if rounded else again, **MADE_UP[what])
    found = compared(cell, record, items if texts else slim_items(items), *again)
    assert found.rounding == ""
    assert found.differences


def test_a_score_that_items_do_not_add_up_to_is_a_difference(cell: Any) -> None:
    again = made(cell)
    record, items = near(cell, again)
    for update in ({"value": record.metrics["acc"].value + 0.01}, {"n": N - 1}, {"higher_is_better": False}):
        metric = record.metrics["acc"].model_copy(update=update)
        assert compared(cell, record.model_copy(update={"metrics": {"acc": metric}}), items, *again).differences


@pytest.mark.parametrize(
    "update",
    [
        {"primary": "acc_norm"},
        {"chance": 0.1},
        {"majority": 0.1},
        {"n_unscored": 7},
        {"track": "joint"},
        {"uses_task_identity": True},
        {"parameters": Parameters(trainable={"router": 1}, stored={})},
        {"routing": make_routing("sst2")},
    ],
    ids=lambda update: next(iter(update)),
)
def test_what_tables_take_from_a_record_is_compared(cell: Any, update: dict[str, Any]) -> None:
    again = made(cell)
    for record, items in (again, near(cell, again)):
        found = compared(cell, record.model_copy(update=update), items, *again)
        assert found.rounding == ""
        assert found.differences


def test_what_routers_did_may_be_apart_by_rounding_too(cell: Any) -> None:
    routing = make_routing("sst2")
    again = made(cell)[0].model_copy(update={"routing": routing}), made(cell)[1]

    def with_mass(mass: float) -> Comparison:
        record, items = near(cell, again)
        other = routing.model_copy(update={"own_expert_mass": routing.own_expert_mass + mass})
        return compared(cell, record.model_copy(update={"routing": other}), items, *again)

    assert with_mass(0.001).rounding
    assert with_mass(0.4).differences


def test_margins_have_no_bias_either(cell: Any) -> None:
    """Higher where the answer is clear, lower where it is hopeless: the gold choice's log-probability hardly moves."""
    outputs = [[[-1.0 if choice == n % 2 else -9.0, False] for choice in (0, 1)] for n in range(N)]
    again = made(cell, outputs)
    assert compared(cell, *made(cell, moved(outputs, lambda n, c: 0.04 * to_gold(n, c))), *again).rounding == ""


def test_a_wrong_answer_in_place_of_another_has_turned() -> None:
    cell = cell_of(Quiz(choices=3))
    ties = [[[-3.0 if choice == n % 2 else -1.0 - 1e-4 * choice, False] for choice in range(3)] for n in range(N)]
    again = made(cell, ties)
    other = made(cell, moved(ties, lambda n, c: 3e-4 * (c == 2) if n % 2 == 0 else 0.0))
    assert other[0].metrics == again[0].metrics
    assert compared(cell, *other, *again).rounding == ""


def test_a_task_may_have_empty_prompts() -> None:
    cell = cell_of(Quiz(prompts=False))
    record, items = made(cell)
    assert compared(cell, record, items, record, items) == EQUAL
    assert compared(cell, record, slim_items(items), record, items) == EQUAL


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("prompts", [True, False])
def test_texts_of_its_own_in_every_row_are_rounded_too(prompts: bool, published: bool) -> None:
    cell = cell_of(Quiz(prompts=prompts, own=True))
    again = made(cell)
    record, items = near(cell, again)
    assert compared(cell, record, slim_items(items) if published else items, *again).rounding


def test_published_once_more_it_is_the_same(cell: Any) -> None:
    once = slim_items(generated("8", 1.0)[1])
    assert slim_items(once) == once
    items = [item.model_copy(update={"choices": None}) for item in made(cell)[1]]
    assert slim_items(slim_items(items)) == slim_items(items)


def test_flags_count_where_they_decide() -> None:
    """A task that asks whether its one answer is the greedy one."""
    cell = cell_of(Quiz(choices=1))
    again = made(cell)
    flags = [[[value, True] for value, _ in own] for own in outputs_of(again)]
    assert compared(cell, *again, *again) == EQUAL
    assert compared(cell, *made(cell, flags), *again).differences
    assert compared(cell, *made(cell, moved(outputs_of(again), lambda n, c: 1e-3 * (-1) ** n)), *again).rounding


def test_a_published_cell_equals_what_it_was_made_of(cell: Any) -> None:
    record, items = made(cell)
    assert compared(cell, record, slim_items(items), record, items) == EQUAL
    other, moved_items = near(cell, (record, items))
    assert compared(cell, other, slim_items(moved_items), record, items).rounding


def generated(text: str, bits: float) -> Made:
    """Texts, whose reference answers are measured too."""
    items = [
        Item(id=f"i{n}", prompt=f"p{n}", outputs=[text], gold="7", prediction=text, metrics={"acc": 0.0, BITS: bits})
        for n in range(4)
    ]
    return changed((make_record(n=4), items), metrics={BITS: bits})


@pytest.mark.parametrize("texts", [True, False], ids=["with texts", "published"])
def test_generated_texts_have_to_be_equal_and_their_reference_answers_near(cell: Any, texts: bool) -> None:
    def against(text: str, bits: float) -> Comparison:
        record, items = generated(text, bits)
        return compared(cell, record, items if texts else slim_items(items), *generated("8", 1.0))

    assert against("8", 1.0) == EQUAL
    assert against("8", 1.0005).rounding == (
        "0 of 4 items have another outcome, 0.0005 bits/byte apart in the mean, 0.0005 at most, 0.0005 with signs"
    )
    assert against("8", 1.01).differences
    record, items = generated("8", 1.0)
    fewer = [
        item.model_copy(update={"metrics": {**item.metrics, BITS: None}}) if n else item for n, item in enumerate(items)
    ]
    metric = record.metrics[BITS].model_copy(update={"n": 1})
    record = record.model_copy(update={"metrics": {**record.metrics, BITS: metric}})
    assert compared(cell, record, fewer if texts else slim_items(fewer), *generated("8", 1.0005)).differences
    assert against("9", 1.0).differences


def test_another_status_or_other_items_are_differences(cell: Any) -> None:
    record, items = made(cell)
    failed = record.model_copy(update={"status": "failed", "error": "no."})
    assert compared(cell, record, items, failed, []).differences == ("failed: no.",)
    assert "items and" in compared(cell, record, items, record, items[:-1]).differences[0]
    assert "in another order" in compared(cell, record, items[::-1], record, items).differences[0]
