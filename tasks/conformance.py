"""What every task must do, whatever it is: checks over a bound task, each an AssertionError with one sentence.

`harness check NAME` and the test suite run the same functions. They use the contract alone, and no model: outputs of a
perfect and of a guessing model are made up here.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from results.ground.digest import unit_interval, wide_seed
from tasks import registry
from tasks.base import PARTS, BoundTask, Doc, Request, ScoredItem
from tasks.card_conformance import card_is_sound
from tasks.wording import normalised

SAMPLE = 150
"""Items looked at by checks that score or render."""
GUESSES = 12
"""Guessing runs over the sample."""


def check(task: BoundTask) -> None:
    """Run every check that applies.

    Raises:
        AssertionError: one sentence for the first thing that is wrong.
    """
    for one in CHECKS:
        one(task)


def parts_are_disjoint(task: BoundTask) -> None:
    """No item is in two parts, by id or by what the model is shown."""
    owner: dict[str, str] = {}
    for part in PARTS:
        for doc in task.parts[part]:
            other = owner.setdefault(doc.id, part)
            assert other == part, f"{task.name}: the item {doc.id} is in {other} and in {part}."
    plain = task.with_settings(task.settings.model_copy(update={"shots": 0}))
    texts: dict[str, str] = {}
    for part in PARTS:
        for doc in _sample(plain.parts[part], SAMPLE * 5):
            requests = plain.requests(doc, 0)
            text = normalised([requests[0].context, *(request.continuation for request in requests)])
            other = texts.setdefault(text, part)
            assert other == part, f"{task.name}: the text of {doc.id} is in {other} and in {part}."


def ids_are_unique(task: BoundTask) -> None:
    """Every id names one row."""
    repeated = [name for name, n in Counter(doc.id for part in PARTS for doc in task.parts[part]).items() if n > 1]
    assert not repeated, f"{task.name}: the id {repeated[0]} names more than one row."


def parts_are_there(task: BoundTask) -> None:
    """There is something to evaluate, and something to train on unless the task says it has none."""
    assert task.parts["eval"], f"{task.name}: the eval part is empty."
    assert set(task.parts) == set(PARTS), f"{task.name}: the parts are {sorted(task.parts)}."


def limit_draws_a_subset(task: BoundTask) -> None:
    """Fewer items are the first of more, and all of them are eval rows."""
    more = [doc.id for doc in _limited(task, 20).eval_docs()]
    fewer = [doc.id for doc in _limited(task, 7).eval_docs()]
    assert fewer == more[:7], f"{task.name}: the items of limit 7 are not the first of limit 20."
    assert set(more) <= {doc.id for doc in task.parts["eval"]}, f"{task.name}: an evaluated item is not in eval."


def requests_are_well_formed(task: BoundTask) -> None:
    """Choices share their prompt; a generation can end."""
    for doc in _items(task):
        requests = task.requests(doc, 0)
        assert requests, f"{task.name}: the item {doc.id} has no request."
        kinds = {request.kind for request in requests}
        expected = {"generate"} if task.generative else {"loglikelihood"}
        assert kinds == expected, f"{task.name}: the item {doc.id} has requests of kind {sorted(kinds)}."
        assert len({request.prefix for request in requests}) == 1, f"{task.name}: choices of {doc.id} differ in prefix."
        if task.generative:
            assert all(r.until and r.max_new_tokens > 0 for r in requests), f"{task.name}: {doc.id} can't stop."
        else:
            continuations = [request.continuation for request in requests]
            assert all(continuations), f"{task.name}: the item {doc.id} has an empty choice."


def training_ends_in_gold(task: BoundTask) -> None:
    """The training view is the evaluation's prompt, and its target is the gold answer as scored."""
    plain = task.with_settings(task.settings.model_copy(update={"shots": 0}))
    golds = {doc.id: item.gold for doc, item in zip(_items(plain), _scored(plain, _items(plain)), strict=True)}
    for doc in _items(plain):
        example = plain.example(doc)
        request = plain.requests(doc, 0)[0]
        prompt = request.prefix + request.context
        assert example.prompt == prompt, f"{task.name}: training and evaluation prompt of {doc.id} differ."
        gold = _gold(plain, doc)
        assert example.target == gold.continuation, f"{task.name}: the training target of {doc.id} is not the gold."
        assert example.target.strip(), f"{task.name}: the training target of {doc.id} is empty."
        text = golds[doc.id]
        assert example.target.rstrip().endswith(text.rstrip()), (
            f"{task.name}: training on {doc.id} doesn't end in gold."
        )


def gold_scores_one(task: BoundTask) -> None:
    """A model that gives every gold answer gets every item of the primary metric (items without a verdict aside)."""
    items = _scored(task, _items(task))
    for doc, item in zip(_items(task), items, strict=True):
        value = item.metrics[task.primary]
        assert value is None or value == 1, f"{task.name}: the gold answer of {doc.id} scores {value}."
    scored = task.aggregate(items).get(task.primary)
    assert scored is None or scored[0] == 1, f"{task.name}: always right aggregates to {scored}."


def guessing_is_at_chance(task: BoundTask) -> None:
    """A guessing model comes out at the stated chance level; the majority level is at least the chance of one label."""
    if task.generative:
        assert task.chance() == 0, f"{task.name}: open generation has no chance level."
        assert task.majority() is None, f"{task.name}: open generation has no majority level."
        return
    if all(len(task.requests(doc, 0)) == 1 for doc in _items(task)):
        assert task.chance() == 0, f"{task.name}: a single continuation has no chance level."
        return
    limited = _limited(task, SAMPLE)
    docs = limited.eval_docs()
    lengths = [[len(request.continuation) for request in limited.requests(doc, 0)] for doc in docs]
    draws = []
    for run in range(GUESSES):
        generator = random.Random(wide_seed("guess", task.name, run))
        items = [_guess(limited, doc, sizes, generator) for doc, sizes in zip(docs, lengths, strict=True)]
        draws.append(limited.aggregate(items)[task.primary][0])
    mean, chance = sum(draws) / len(draws), limited.chance()
    error = math.sqrt(chance * (1 - chance) / (len(docs) * GUESSES))
    assert abs(mean - chance) < 4.5 * error, (
        f"{task.name}: guessing scores {mean:.3f}, the chance level is {chance:.3f}."
    )
    majority = limited.majority()
    largest = 1 / max(map(len, lengths))
    assert majority is not None, f"{task.name}: no majority level."
    assert largest <= majority <= 1, f"{task.name}: the majority level {majority:.3f} is below {largest:.3f}."


def scoring_is_pure(task: BoundTask) -> None:
    """Scoring twice gives the same, and nothing of an item's score depends on others."""
    docs = _items(task)[:20]
    alone = [task.score(doc, _perfect(task, doc)) for doc in docs]
    reverse = [task.score(doc, _perfect(task, doc)) for doc in reversed(docs)]
    assert alone == reverse[::-1], f"{task.name}: an item's score depends on the order of scoring."


def fewshot_is_positionless(task: BoundTask) -> None:
    """Few-shot examples follow from seed and item id: not from order, limit, or what was asked before."""
    pool = {doc.id for doc in task.parts["expert-train"]}
    shots = min(2, len(pool) - 1)
    if shots < 1:
        return
    for mode in ("fixed", "per_item"):
        settings = {"shots": shots, "fewshot": mode, "limit": SAMPLE}
        wide = task.with_settings(task.settings.model_copy(update=settings))
        narrow = task.with_settings(task.settings.model_copy(update=settings | {"limit": 7}))
        docs = narrow.eval_docs()
        prefixes = [_prefix(wide, doc) for doc in reversed(docs)][::-1]
        assert prefixes == [_prefix(narrow, doc) for doc in docs], f"{task.name}: {mode} examples depend on position."
        assert all(prefixes), f"{task.name}: {mode} examples are missing from the prefix."
        if mode == "fixed":
            assert len(set(prefixes)) == 1, f"{task.name}: fixed few-shot prefixes differ between items."
        elif len(pool) > 20 and len(docs) > 1:
            assert len(set(prefixes)) > 1, f"{task.name}: per-item few-shot prefixes are all the same."
        moved = [wide.requests(doc, 1)[0].prefix for doc in docs]
        assert len(pool) <= 20 or moved != prefixes, f"{task.name}: {mode} examples don't depend on the seed."


def fewshot_leaves_the_question(task: BoundTask) -> None:
    """With examples before it, an item's own question and choices stay what they are."""
    if len(task.parts["expert-train"]) < 3 or task.settings.chat_template:
        return
    without = task.with_settings(task.settings.model_copy(update={"shots": 0}))
    some = task.with_settings(task.settings.model_copy(update={"shots": 2}))
    for doc in _items(task)[:20]:
        for bare, full in zip(without.requests(doc, 0), some.requests(doc, 0), strict=True):
            same = (bare.context, bare.continuation) == (full.context, full.continuation)
            assert same, f"{task.name}: few-shot examples change the question of {doc.id}."
            assert full.prefix.startswith(bare.prefix), f"{task.name}: few-shot examples change the description."


def name_carries_settings(task: BoundTask) -> None:
    """The display name says how many shots there are, and can be read back."""
    for shots in (None, 0, 5):
        display = registry.display(task.name, shots)
        name, parsed = registry.parse(display)
        default = registry.card(task.name).shots
        assert name == task.name, f"{task.name}: its display name {display} reads as {name}."
        effective = default if parsed is None else parsed
        wanted = default if shots is None else shots
        assert effective == wanted, f"{task.name}: its display name {display} loses the {shots} shots."


def bits_per_byte_is_a_likelihood(task: BoundTask) -> None:
    """Generative tasks measure their gold answer in bits per byte, unless lm-eval's metrics are all they have."""
    if not task.generative:
        return
    doc = _items(task)[0]
    request = task.gold_request(doc, 0)
    if request is None and "bits_per_byte" not in registry.card(task.name).metrics:
        return
    assert request is not None, f"{task.name}: a generative task needs a gold request."
    one_bit_each = -math.log(2) * len(request.continuation.encode())
    value = task.gold_bits_per_byte(doc, one_bit_each)
    assert math.isclose(value, 1.0), f"{task.name}: one bit per byte is measured as {value}."


CHECKS: tuple[Callable[[BoundTask], None], ...] = (
    card_is_sound,
    parts_are_there,
    ids_are_unique,
    parts_are_disjoint,
    limit_draws_a_subset,
    requests_are_well_formed,
    training_ends_in_gold,
    gold_scores_one,
    guessing_is_at_chance,
    scoring_is_pure,
    fewshot_is_positionless,
    fewshot_leaves_the_question,
    name_carries_settings,
    bits_per_byte_is_a_likelihood,
)


def _limited(task: BoundTask, limit: int) -> BoundTask:
    return task.with_settings(task.settings.model_copy(update={"limit": limit}))


def _items(task: BoundTask) -> Sequence[Doc]:
    return task.eval_docs()[:SAMPLE]


def _sample(docs: Sequence[Doc], limit: int) -> list[Doc]:
    return sorted(docs, key=lambda doc: unit_interval("conformance", doc.id))[:limit]


def _prefix(task: BoundTask, doc: Doc) -> str:
    return task.requests(doc, 0)[0].prefix


def _gold(task: BoundTask, doc: Doc) -> Request:
    """The request whose continuation is the gold answer."""
    request = task.gold_request(doc, 0)
    if request is not None:
        return request
    target = task.example(doc).target
    requests = task.requests(doc, 0)
    if task.generative:
        return dataclasses.replace(requests[0], kind="loglikelihood", continuation=target)
    matching = [request for request in requests if request.continuation == target]
    assert matching, f"{task.name}: the gold of {doc.id} is none of its {len(requests)} choices."
    return matching[0]


def _perfect(task: BoundTask, doc: Doc) -> list[Any]:
    """Outputs of a model that knows the answer."""
    if task.generative:
        return [task.example(doc).target] * len(task.requests(doc, 0))
    target = task.example(doc).target
    return [
        (-0.001, True) if request.continuation == target else (-50.0 - 10 * len(request.continuation), False)
        for request in task.requests(doc, 0)
    ]


def _scored(task: BoundTask, docs: Sequence[Doc]) -> list[ScoredItem]:
    """Scores of a model that knows the answers; without asking a judge."""
    outputs = [_perfect(task, doc) for doc in docs]
    if task.needs_judge:
        return [task.score(doc, output) for doc, output in zip(docs, outputs, strict=True)]
    return task.score_all(docs, outputs)


def _guess(task: BoundTask, doc: Doc, lengths: Sequence[int], generator: random.Random) -> ScoredItem:
    """An item scored on random log-likelihoods, per character (without delimiter) where the metric normalises."""
    per_character = task.primary == "acc_norm"
    return task.score(doc, [(-generator.random() * (length - 1 if per_character else 1), False) for length in lengths])
