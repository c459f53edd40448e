"""What counts alike in the task loss, and that it is the same however a window is cut; and that it reaches a router."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.training.data import Encoded, collate, draw, micro_batches
from harness.training.forward import target_logits
from harness.training.loop import Recipe, train, window_backward
from harness.training.session import EngineSession
from harness.training.weighing import Weigh, Weighing
from methods import registry
from methods.base import Composed, Unsupported
from methods.tiny import tiny_comparison, tiny_experts, tiny_model

WEIGHINGS: tuple[Weigh, ...] = ("tokens", "examples", "tasks")
RECIPE = Recipe({"routers": 1e-2}, 1, 4, 4, 0.0, "constant", 0.0, seed=0)


def rows(n: int = 8) -> list[Encoded]:
    """Three tasks of 4, 2 and 2 in eight rows; targets of one, two and nine tokens."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for index in range(n):
        task = "abac"[index % 4]
        target = {"a": 1, "b": 2, "c": 9}[task]
        length = target + int(torch.randint(3, 12, (1,), generator=generator))
        ids = tuple(torch.randint(3, 64, (length,), generator=generator).tolist())
        made.append(Encoded(f"{index:03d}", task, index % 3, ids, target))
    return made


def put(name: str = "mixer-none", overrides: dict[str, Any] | None = None, architecture: str = "llama") -> Composed:
    model = tiny_model(architecture, dtype=torch.float64)
    method = registry.create(name, overrides).within(tiny_comparison())
    return method.install(model, tiny_experts(model), seed=0)


def gradient(by: Weigh, size: int, architecture: str) -> tuple[list[Tensor], float]:
    """Of the task loss of eight rows at every router, in micro-batches of a size; and the loss."""
    composed, seq2seq = put(architecture=architecture), architecture == "t5"
    routers = composed.groups()["routers"].values()
    composed.model.requires_grad_(False)
    for parameter in routers:
        parameter.requires_grad_(True)
    parts = micro_batches(rows(), size, by_length=True)
    weighing = Weighing.of(by, rows(), seq2seq=seq2seq)
    terms = window_backward(
        composed,
        composed.model,
        [collate(part, 0, seq2seq=seq2seq) for part in parts],
        lambda loss: loss.backward(),
        weights=weighing.window(parts),
    )
    return [p.grad for p in routers if p.grad is not None], terms["task"]


@pytest.mark.parametrize("architecture", ["llama", "t5"])
@pytest.mark.parametrize("by", WEIGHINGS)
def test_the_gradient_is_the_same_however_a_window_is_cut(by: Weigh, architecture: str) -> None:
    whole, value = gradient(by, 8, architecture)
    assert max(g.abs().max().item() for g in whole) > 1e-6
    for size in (1, 2, 3):
        cut, cut_value = gradient(by, size, architecture)
        assert cut_value == pytest.approx(value, abs=1e-13)
        for one, two in zip(whole, cut, strict=True):
            torch.testing.assert_close(two, one, rtol=0, atol=1e-13)


@pytest.mark.parametrize("by", WEIGHINGS)
def test_each_reading_is_the_mean_that_its_name_says(by: Weigh) -> None:
    """Against cross-entropies of single rows: over all tokens, over rows' means, over tasks' means of rows' means."""
    composed = put()
    summed: dict[str, list[tuple[float, int]]] = {}
    with torch.no_grad():
        for row in rows():
            composed.context.training = True
            logits, wanted = target_logits(composed.model, composed.model, collate([row], 0))
            total = nn.functional.cross_entropy(logits, wanted, reduction="sum").item()
            summed.setdefault(row.task, []).append((total, len(wanted)))
    every = [pair for pairs in summed.values() for pair in pairs]
    means = {task: sum(total / n for total, n in pairs) / len(pairs) for task, pairs in summed.items()}
    expected = {
        "tokens": sum(total for total, _ in every) / sum(n for _, n in every),
        "examples": sum(total / n for total, n in every) / len(every),
        "tasks": sum(means.values()) / len(means),
    }
    assert len({round(value, 6) for value in expected.values()}) == 3
    assert gradient(by, 3, "llama")[1] == pytest.approx(expected[by], rel=1e-12)


def test_weights_by_tokens_are_the_plain_mean() -> None:
    """What is not weighed at all is the mean over tokens, which its weights give too."""
    weighing = Weighing.of("tokens", rows())
    assert {w for part in weighing.window([rows()]) for w in part} == {1 / sum(row.n_target for row in rows())}


def test_shares_say_whose_loss_it_is() -> None:
    """By tokens the task with long answers has most of it, by examples its share of the rows, by tasks a third."""
    plan = [rows()]
    by = {name: Weighing.of(name, rows()).shares(plan) for name in WEIGHINGS}
    assert by["tokens"] == pytest.approx({"a": 4 / 26, "b": 4 / 26, "c": 18 / 26})
    assert by["examples"] == pytest.approx({"a": 1 / 2, "b": 1 / 4, "c": 1 / 4})
    assert by["tasks"] == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})


def test_tasks_count_alike_over_the_training_set_and_not_within_a_window() -> None:
    """Windows hold tasks by chance; over an epoch of equal windows every task has one share."""
    weighing = Weighing.of("tasks", rows())
    ordered = sorted(rows(), key=lambda row: row.task)
    plan = [ordered[:4], ordered[4:]]
    assert weighing.shares(plan[:1]) == {"a": 1.0}
    assert weighing.shares(plan[1:]) == pytest.approx({"b": 1 / 2, "c": 1 / 2})
    assert list(weighing.shares(plan).values()) == pytest.approx([1 / 3] * 3)


def test_a_row_without_a_scored_token_has_no_weight() -> None:
    empty = Encoded("e", "a", 0, (5,), 1)
    for by in WEIGHINGS:
        (weights,) = Weighing.of(by, [*rows(), empty]).window([[*rows(), empty]])
        assert weights[-1] == 0
        assert sum(w > 0 for w in weights) == 8
    assert Weighing("examples").window([[rows()[0], empty]]) == [[1.0, 0.0]]


def test_a_fit_keeps_whose_loss_it_was() -> None:
    log = train(put(), rows(), ["routers"], replace(RECIPE, weigh="examples"), pad_id=0)
    assert log.shares == pytest.approx({"a": 1 / 2, "b": 1 / 4, "c": 1 / 4})
    assert (log.examples, len(log.steps), log.tokens) == (8, 2, sum(map(len, rows())))


def test_weighing_changes_what_is_learned() -> None:
    def fitted(by: Weigh) -> dict[str, Tensor]:
        composed = put()
        train(composed, rows(), ["routers"], replace(RECIPE, weigh=by), pad_id=0)
        return composed.state()

    tokens, examples = fitted("tokens"), fitted("examples")
    assert any(not torch.equal(value, examples[name]) for name, value in tokens.items())


def test_tuning_chooses_by_examples_and_then_tasks() -> None:
    """The dev loss is the mean over tasks of the mean over examples of each one's mean over tokens."""
    composed = put()
    plan: Any = SimpleNamespace(config=SimpleNamespace(routers=SimpleNamespace(micro_batch_size=3)))
    nothing: Any = None
    session = EngineSession(plan, nothing, nothing, seed=0)
    session.rows = lambda data, budget: draw(  # type: ignore[method-assign]
        {"all": rows()}, tokens=None, examples=None, mixture="proportional", seed=0
    )
    session._collate = lambda chunk: collate(chunk, 0)  # type: ignore[method-assign]
    each: dict[str, list[float]] = {}
    with torch.no_grad():
        for row in rows():
            logits, wanted = target_logits(composed.model, composed.model, collate([row], 0))
            each.setdefault(row.task, []).append(nn.functional.cross_entropy(logits, wanted).item())
    expected = sum(sum(values) / len(values) for values in each.values()) / len(each)
    assert session.dev_loss(composed, 64) == pytest.approx(expected, rel=1e-12)
    assert session.loss(composed, "routing", 64) != pytest.approx(expected, rel=1e-3)
    looked_at = {"examples": 8, "tokens": sum(map(len, rows())), "lr": {}}
    assert session.phases == [{"phase": "search on routing", "steps": 0, "evaluations": 1, **looked_at}]


def test_losses_are_taken_with_prompts_marked() -> None:
    """Weights that a prompt fixes are those of its last token, not of the answer's; afterwards nothing is marked."""
    composed = put("xlora", {"scope": "prompt_fixed"})
    with torch.no_grad():
        for parameter in composed.groups()["routers"].values():
            parameter.mul_(50)
    plan: Any = SimpleNamespace(config=SimpleNamespace(routers=SimpleNamespace(micro_batch_size=3)))
    nothing: Any = None
    session = EngineSession(plan, nothing, nothing, seed=0)
    session._collate = lambda chunk: collate(chunk, 0)  # type: ignore[method-assign]
    found = {total for _, total, _ in session._row_losses(composed, rows())}
    assert composed.context.prompt_mask is None
    unmarked, expected = [], []
    with torch.no_grad():
        for row in rows():
            part = collate([row], 0)
            for losses, mask in ((unmarked, None), (expected, part["labels"] == -100)):
                composed.context.prompt_mask = mask
                logits, wanted = target_logits(composed.model, composed.model, part)
                losses.append(nn.functional.cross_entropy(logits, wanted, reduction="sum").item())
    assert sorted(found) == pytest.approx(sorted(expected), rel=1e-9)
    assert sorted(found) != pytest.approx(sorted(unmarked), rel=1e-6)


TOP_1 = {"route.train_k": 1, "route.eval_k": 1}


def moved(composed: Composed, groups: Callable[[Composed], list[str]] = lambda c: ["routers"]) -> bool:
    """Whether a fit of the task loss alone, or of all that the method trains, moves a router."""
    before = {name: p.detach().clone() for name, p in composed.groups()["routers"].items()}
    rates = dict.fromkeys(composed.groups(), 1e-2)
    train(composed, rows(16), groups(composed), replace(RECIPE, lr=rates), pad_id=0, reach=True)
    return any(not torch.equal(p, before[name]) for name, p in composed.groups()["routers"].items())


@pytest.mark.parametrize("overrides", [{}, TOP_1, {**TOP_1, "route.renorm": "none"}, {"route.dense": True}], ids=str)
def test_routers_that_the_task_loss_reaches_are_trained(overrides: dict[str, Any]) -> None:
    assert moved(put(overrides=overrides))


@pytest.mark.parametrize("name", ["mixer-none", "mixer"])
def test_routers_that_the_task_loss_does_not_reach_are_refused(name: str) -> None:
    """Also where an auxiliary loss would move them: top-1 divided by itself tells the task nothing."""
    with pytest.raises(Unsupported, match="The task loss reaches no router"):
        moved(put(name, {**TOP_1, "route.straight_through": False}))


def test_a_pool_of_one_has_nothing_to_learn() -> None:
    model = tiny_model("llama", dtype=torch.float64)
    composed = registry.create("mixer-none", {"route.dense": True}).install(model, tiny_experts(model, ["a"]), seed=0)
    with pytest.raises(Unsupported, match="The task loss reaches no router"):
        moved(composed)


@pytest.mark.parametrize("name", ["mixlora", "hydralora", "ds-moe-dense"])
def test_experts_that_start_at_zero_are_given_time(name: str) -> None:
    """Routers of untrained experts have no gradient until these have moved: looked at in the third step."""
    assert moved(put(name), lambda composed: list(composed.groups()))


def test_top_1_of_experts_trained_with_it_is_refused_too() -> None:
    with pytest.raises(Unsupported, match="The task loss reaches no router"):
        moved(put("mixlora", {**TOP_1, "route.straight_through": False}), lambda composed: list(composed.groups()))


def test_looking_changes_no_bit() -> None:
    states = []
    for reach in (False, True):
        composed = put("mixer")
        train(composed, rows(), ["routers"], RECIPE, pad_id=0, reach=reach)
        states.append(composed.state())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
