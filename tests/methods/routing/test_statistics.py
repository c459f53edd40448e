"""Where balance losses take their means from: the choice that most easily ruins every router."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.base import Unsupported
from methods.routing import losses
from methods.routing.composed import RoutedComposed
from methods.routing.config import StatisticsConfig
from methods.routing.statistics import BalanceStatistics, RoutingBatch, expand_at
from methods.tiny import TinyBatch, TinySession, tiny_batch, tiny_experts, tiny_llama, window_gradient

N = 4
TIGHT = 1e-12


def composed_with(overrides: dict[str, Any], name: str = "mixer") -> RoutedComposed:
    model = tiny_llama(dtype=torch.float64)
    defaults = {"loss.warmup_frac": 0.0, "router.init_std": 0.5} if name == "mixer" else {"gate.init_std": 0.5}
    composed = registry.create(name, {**defaults, **overrides}).install(model, tiny_experts(model), seed=0)
    assert isinstance(composed, RoutedComposed)
    return composed


def gradients(composed: RoutedComposed, window: list[TinyBatch]) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Losses and gradients of a window, which is not ended."""
    for parameter in composed.model.parameters():
        parameter.grad = None
    values = window_gradient(composed, window)
    routers = composed.groups()["routers"]
    return values, {name: p.grad.clone() for name, p in routers.items() if p.grad is not None}


TERMS = {
    "aux": {"loss.aux.coef": 1.0, "loss.entropy.coef": 0.0},
    "aux, f in the graph": {"loss.aux.coef": 1.0, "loss.aux.detach_f": False, "loss.entropy.coef": 0.0},
    "entropy": {"loss.aux.coef": 0.0, "loss.entropy.coef": 1.0},
    "mi": {"loss.aux.coef": 0.0, "loss.entropy.coef": 0.0, "loss.mi.coef": 1.0},
    "cv2": {"loss.aux.coef": 0.0, "loss.entropy.coef": 0.0, "loss.cv2.coef": 1.0},
    "z": {"loss.aux.coef": 0.0, "loss.entropy.coef": 0.0, "loss.z.coef": 1.0},
}


@pytest.mark.parametrize("tokens", ["all_nonpad", "answer_only", "prompt_only"])
@pytest.mark.parametrize("scope", ["ema", "accum"])
@pytest.mark.parametrize("term", TERMS)
def test_cutting_a_window_changes_no_gradient(term: str, scope: str, tokens: str) -> None:
    """Batch 8x1 and 2x4 (and ragged cuts) give one gradient for every term, before and after there is a history."""
    composed = composed_with({**TERMS[term], "loss.stats_scope": scope, "loss.stats_tokens": tokens})
    for seed in range(2):
        batch = tiny_batch(seed=seed)
        cuts = (
            [[batch], [batch[:3], batch[3:4], batch[4:]]]
            if seed
            else [[batch], [batch[n : n + 2] for n in (0, 2, 4, 6)]]
        )
        outcomes = []
        for cut in cuts:
            outcomes.append(gradients(composed, cut))
            if composed.loss is not None and cut is cuts[0]:
                composed.loss.statistics._forget()
        assert outcomes[0][1].keys() == composed.groups()["routers"].keys()
        for values, found in outcomes[1:]:
            for name, value in outcomes[0][0].items():
                assert values[name] == pytest.approx(value, abs=1e-10), name
            for name, gradient in outcomes[0][1].items():
                assert (found[name] - gradient).abs().max() < 1e-10, name
        composed.on_window_end()


@pytest.mark.parametrize("per_gate", [False, True])
def test_cutting_a_window_changes_no_gradient_of_mole(per_gate: bool) -> None:
    composed = composed_with({"loss.per_gate": per_gate, "loss.balance": 1.0}, "mole")
    for seed in range(2):
        batch = tiny_batch(seed=seed)
        whole = gradients(composed, [batch])
        assert composed.loss is not None
        composed.loss.statistics._forget()
        parts = gradients(composed, [batch[n : n + 2] for n in range(0, 8, 2)])
        for name, gradient in whole[1].items():
            assert (parts[1][name] - gradient).abs().max() < 1e-10, name
        composed.on_window_end()


def test_literal_micro_batches_do_change_it() -> None:
    """Negative control: statistics inside the micro-batch depend on how the window is cut."""
    composed = composed_with({**TERMS["aux"], "loss.stats_scope": "microbatch"})
    batch = tiny_batch()
    whole, parts = (gradients(composed, cut)[1] for cut in ([batch], [batch[n : n + 1] for n in range(8)]))
    assert max((parts[name] - gradient).abs().max().item() for name, gradient in whole.items()) > 1e-6


def test_exact_scope_is_the_gradient_of_the_whole_window() -> None:
    """`accum` gives, in eight cuts, the gradient of the literal loss over the uncut window."""
    batch = tiny_batch()
    for term in TERMS.values():
        literal = gradients(composed_with({**term, "loss.stats_scope": "microbatch"}), [batch])
        exact = gradients(composed_with({**term, "loss.stats_scope": "accum"}), [batch[n : n + 1] for n in range(8)])
        for name, gradient in literal[1].items():
            assert (exact[1][name] - gradient).abs().max() < 1e-10


def test_exact_scope_needs_its_pass() -> None:
    composed = composed_with({"loss.stats_scope": "accum"})
    composed.context.training = True
    batch = tiny_batch()
    composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    with pytest.raises(RuntimeError, match="needs a pass over the window"):
        composed.losses()


def domain_routing(domains: list[int]) -> RoutingBatch:
    """Sequences of five tokens, each token routed wholly to its sequence's own expert."""
    from methods.routing.router import Record

    p = torch.eye(N, dtype=torch.float64)[domains][:, None, None, :].expand(-1, 5, 1, N)
    return RoutingBatch([Record((p + 1e-300).log(), p)], None)


def test_perfect_domain_routing() -> None:
    """Over a one-domain batch the literal balance is 1, its maximum; with running means over domains 1/N."""
    statistics = BalanceStatistics(1, N, StatisticsConfig(), torch.zeros((), dtype=torch.float64))
    values = []
    for step in range(40):
        batch = domain_routing([step % N])
        literal = losses.balance(batch.pbar, batch.fbar("topk_score").detach())
        assert literal.item() == pytest.approx(1.0, abs=TIGHT)
        statistics.observe(batch.pbar, batch.fbar("topk_score"), batch.tokens)
        if (step + 1) % N == 0:
            statistics.end_window()
            _, load = statistics.point()
            assert load is not None
            values.append(losses.balance(domain_routing([1]).pbar, load).item())
    assert values == pytest.approx([1 / N] * len(values), abs=1e-9)


def test_running_means_move_between_windows_only() -> None:
    """Within a window all see one point; the update weights micro-batches by tokens; bias is corrected."""
    config = StatisticsConfig(ema_decay=0.9)
    statistics = BalanceStatistics(1, N, config, torch.zeros((), dtype=torch.float64))
    point = statistics.point()[0]
    assert point is not None
    assert torch.equal(point, torch.full((1, N), 1 / N, dtype=torch.float64))
    one, two = (torch.softmax(torch.randn(1, N, dtype=torch.float64), -1) for _ in range(2))
    statistics.observe(one, one, torch.tensor(30))
    assert statistics.point()[0] is not None
    assert torch.equal(statistics.point()[0], point)  # type: ignore[arg-type]
    statistics.observe(two, two, torch.tensor(10))
    statistics.end_window()
    first = (30 * one + 10 * two) / 40
    assert (statistics.point()[0] - first).abs().max() < TIGHT  # type: ignore[operator]
    statistics.observe(two, two, torch.tensor(5))
    statistics.end_window()
    expected = (0.9 * 0.1 * first + 0.1 * two) / (1 - 0.9**2)
    assert (statistics.point()[1] - expected).abs().max() < TIGHT  # type: ignore[operator]


def test_no_gradient_before_there_is_a_history() -> None:
    """At the uniform prior every balance loss is flat: the first window trains on the other losses alone."""
    flat = torch.full((N,), 1 / N, dtype=torch.float64)
    for loss in (losses.negative_entropy, losses.squared_cv, losses.negative_log_product):
        logits = torch.randn(7, N, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(expand_at(loss, logits.softmax(-1).mean(0), flat), logits)
        assert gradient.abs().max() < TIGHT


@pytest.mark.parametrize("loss", [losses.negative_entropy, losses.squared_cv, losses.negative_log_product])
def test_expansion_is_tangent(loss: Any) -> None:
    """At its own point the expansion has the loss's value and gradient; elsewhere the spec's linear forms."""
    means = torch.softmax(torch.randn(3, N, dtype=torch.float64), -1).requires_grad_()
    literal, tangent = loss(means), expand_at(loss, means, means.detach())
    assert (literal - tangent).abs().max() < TIGHT
    for a, b in zip(torch.autograd.grad(literal.sum(), means), torch.autograd.grad(tangent.sum(), means), strict=True):
        assert (a - b).abs().max() < TIGHT
    point = torch.softmax(torch.randn(3, N, dtype=torch.float64), -1)
    cross = expand_at(losses.negative_entropy, means, point)
    assert (cross - (means * point.log()).sum(-1)).abs().max() < TIGHT


def padded(batch: TinyBatch, *, extra: int = 0, left: bool = False) -> TinyBatch:
    """The same sequences with more padding, or with all of it on the left."""

    def move(rows: Tensor, fill: int) -> Tensor:
        wide = torch.full((len(rows), rows.shape[1] + extra), fill)
        for row, target, mask in zip(rows, wide, batch.attention_mask.bool(), strict=True):
            length = int(mask.sum())
            start = wide.shape[1] - length if left else 0
            target[start : start + length] = row[mask]
        return wide

    return TinyBatch(move(batch.input_ids, 0), move(batch.attention_mask, 0), move(batch.labels, -100), batch.domain)


@pytest.mark.parametrize("change", [{"extra": 5}, {"left": True}, {"extra": 3, "left": True}], ids=str)
@pytest.mark.parametrize("scope", ["microbatch", "ema", "accum"])
def test_padding_changes_no_loss(scope: str, change: dict[str, Any]) -> None:
    """Appending padding, or moving it to the left, changes no loss and no running mean."""
    overrides = {"loss.stats_scope": scope, "loss.mi.coef": 1.0, "loss.cv2.coef": 1.0, "loss.z.coef": 1.0}
    composed = composed_with(overrides)
    expected = gradients(composed, [tiny_batch()])
    assert composed.loss is not None
    sums = composed.loss.statistics._sums.clone()
    composed.loss.statistics._forget()
    found = gradients(composed, [padded(tiny_batch(), **change)])
    # Rotary angles are float32 in the library, so moving a sequence along moves the ninth digit.
    close = 1e-6 if change.get("left") else 1e-10
    for name, value in expected[0].items():
        assert found[0][name] == pytest.approx(value, abs=close), name
    assert (composed.loss.statistics._sums - sums).abs().max() < 100 * close


@pytest.mark.parametrize(("tokens", "share"), [("answer_only", True), ("prompt_only", False)])
def test_counted_tokens(tokens: str, share: bool) -> None:
    """`stats_tokens` counts answers or prompts alone, and says so on the term."""
    composed = composed_with({"loss.stats_tokens": tokens, "loss.stats_scope": "microbatch"})
    batch = tiny_batch()
    composed.context.training, composed.context.label_mask = True, batch.labels != -100
    composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    record = composed.routers[0].record
    assert record is not None
    answer = batch.labels != -100
    mask = answer if share else ~answer & batch.attention_mask.bool()
    expected = torch.stack([losses.entropy(r.record.logits.softmax(-1))[mask].mean(0) for r in composed.routers[:1]])  # type: ignore[union-attr]
    terms = composed.losses()
    assert terms["entropy"].counted == tokens
    only = composed_with({"loss.stats_tokens": tokens, "loss.stats_scope": "microbatch"})
    only.routers = only.routers[:1]
    only.context.training, only.context.label_mask = True, answer
    only.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    assert (only.losses()["entropy"].value - expected.mean()).abs() < TIGHT
    only.context.label_mask = None
    only.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    with pytest.raises(RuntimeError, match="needs the label mask"):
        only.losses()


def test_small_micro_batches_refuse_literal_statistics() -> None:
    method = registry.create("mixer", {"loss.stats_scope": "microbatch"})
    model = tiny_llama()
    composed = method.install(model, tiny_experts(model), seed=0)
    with pytest.raises(Unsupported, match=r"at least 8 sequences and this one holds 4"):
        method.fit(composed, TinySession(micro=4))
    method.fit(composed, TinySession(micro=8, steps=1))


def test_losses_need_a_training_pass() -> None:
    composed = composed_with({})
    with pytest.raises(RuntimeError, match=r"need a forward pass with context\.training"):
        composed.losses()


def test_running_means_are_part_of_the_state() -> None:
    composed = composed_with({})
    window_gradient(composed, [tiny_batch()])
    composed.on_window_end()
    state = composed.state()
    assert int(state["statistics.windows"]) == 1
    again = composed_with({})
    again.load_state(state)
    assert again.loss is not None
    assert composed.loss is not None
    for now, then in zip(again.loss.statistics.point(), composed.loss.statistics.point(), strict=True):
        assert now is not None
        assert then is not None
        assert torch.equal(now, then)
    for broken in (dict(list(state.items())[1:]), state | {"odd": torch.zeros(1)}, dict(list(state.items())[:-1])):
        with pytest.raises(KeyError, match="state names differ"):
            again.load_state(broken)
