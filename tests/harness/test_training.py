"""The training loop: every loss term is right however a window is cut, and only what was named is trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from harness.training.data import Encoded, draw, micro_batches, windows
from harness.training.forward import logits_at
from harness.training.loop import Recipe, train, window_backward
from methods.base import Composed, LossTerm
from methods.routing.context import RoutingContext


def tiny_llama(dtype: torch.dtype = torch.float64) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def rows(n: int, seed: int = 0, task: str = "t") -> list[Encoded]:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for index in range(n):
        length = int(torch.randint(4, 20, (1,), generator=generator))
        ids = tuple(torch.randint(3, 64, (length,), generator=generator).tolist())
        made.append(Encoded(f"{index:03d}", task, index % 3, ids, 1 + index % 3))
    return made


class Toy(Composed):
    """A trainable projection on the first hidden layer, with a per-token and a data-independent loss."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        super().__init__(model, RoutingContext(), ["a", "b", "c"])
        model.requires_grad_(False)
        self.layer = model.model.layers[0].self_attn.q_proj
        self.seen: torch.Tensor | None = None
        self.layer.register_forward_hook(self._keep)
        self.mask: torch.Tensor | None = None
        model.register_forward_pre_hook(self._mask, with_kwargs=True)
        self.ends = 0

    def _mask(self, _module: nn.Module, _args: tuple, kwargs: dict) -> None:
        self.mask = kwargs["attention_mask"].bool()

    def _keep(self, _module: nn.Module, _args: tuple, output: torch.Tensor) -> None:
        self.seen = output

    def groups(self) -> dict[str, dict[str, nn.Parameter]]:
        return {"routers": {"w": self.layer.weight}, "other": {"k": self.model.model.layers[1].self_attn.k_proj.weight}}

    def losses(self) -> dict[str, LossTerm]:
        assert self.seen is not None
        assert self.mask is not None
        return {
            "squares": LossTerm(self.seen[self.mask].pow(2).mean(), 0.3),
            "preserve": LossTerm(self.layer.weight.pow(2).sum(), 0.01, per_token=False),
        }

    def on_window_end(self) -> None:
        self.ends += 1


def window(size: int) -> list[dict[str, torch.Tensor]]:
    from harness.training.data import collate

    return [collate(part, 0) for part in micro_batches(rows(8), size, by_length=True)]


@pytest.mark.parametrize("term", ["task", "squares", "preserve"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_gradient_of_every_loss_term_is_the_same_however_a_window_is_cut(term: str, size: int) -> None:
    def gradient(size: int) -> tuple[torch.Tensor, float]:
        toy = Toy(tiny_llama())
        weight = toy.layer.weight.requires_grad_(True)
        kept = toy.losses
        toy.losses = lambda: {k: v for k, v in kept().items() if k == term}  # type: ignore[method-assign]
        terms = window_backward(
            toy, toy.model, window(size), lambda loss: loss.backward() if loss.requires_grad else None
        )
        return weight.grad.clone(), terms[term]

    whole, value_whole = gradient(8)
    cut, value_cut = gradient(size)
    torch.testing.assert_close(cut, whole, rtol=0, atol=1e-12)
    assert value_cut == pytest.approx(value_whole, abs=1e-12)


def test_the_whole_loop_agrees_too() -> None:
    def trained(micro: int) -> torch.Tensor:
        toy = Toy(tiny_llama())
        recipe = Recipe({"routers": 1e-2}, 2, 8, micro, 0.0, "cosine", 0.1, seed=3)
        train(toy, rows(20), ["routers"], recipe, pad_id=0)
        return toy.layer.weight.detach()

    torch.testing.assert_close(trained(2), trained(8), rtol=0, atol=1e-9)


def test_gradients_of_a_loss_of_its_own_do_not_pile_up() -> None:
    """A parameter that is no part of the model sees one step's gradient at a time."""

    class WithLoss(Toy):
        def __init__(self, model: LlamaForCausalLM) -> None:
            super().__init__(model)
            self.own = nn.Parameter(torch.ones(3, dtype=torch.float64))
            self.gradients: list[float] = []
            self.own.register_post_accumulate_grad_hook(lambda p: self.gradients.append(float(p.grad.sum())))

        def groups(self) -> dict[str, dict[str, nn.Parameter]]:
            return {**super().groups(), "loss": {"own": self.own}}

        def losses(self) -> dict[str, LossTerm]:
            return {"own": LossTerm(self.own.sum(), 1.0, per_token=False)}

    toy = WithLoss(tiny_llama())
    recipe = Recipe({"routers": 1e-2, "loss": 1e-2}, 1, 4, 4, 0.0, "constant", 0.0, seed=3)
    train(toy, rows(20), ["routers", "loss"], recipe, pad_id=0)
    assert toy.gradients == [3.0] * 5


def test_only_the_named_groups_change_and_nothing_stays_behind() -> None:
    toy = Toy(tiny_llama())
    before = {name: p.detach().clone() for name, p in toy.model.named_parameters()}
    recipe = Recipe({"routers": 1e-2}, 1, 4, 4, 0.0, "constant", 0.0, seed=0)
    log = train(toy, rows(10), ["routers"], recipe, pad_id=0)
    changed = {name for name, p in toy.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"model.layers.0.self_attn.q_proj.weight"}
    assert not any(p.requires_grad or p.grad is not None for p in toy.model.parameters())
    assert (toy.context.training, toy.model.training) == (False, False)
    assert (len(log.steps), toy.ends) == (3, 3)
    assert set(log.steps[0]) >= {"step", "lr", "loss", "task", "squares", "preserve"}


def test_the_same_seed_gives_the_same_first_losses_and_another_seed_others() -> None:
    def losses(seed: int) -> list[float]:
        recipe = Recipe({"routers": 1e-2}, 1, 4, 4, 0.0, "constant", 0.0, seed=seed)
        return [step["loss"] for step in train(Toy(tiny_llama()), rows(12), ["routers"], recipe, pad_id=0).steps]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_training_refuses_nothing_to_train_on() -> None:
    recipe = Recipe({"routers": 1e-2}, 1, 4, 4, 0.0, "constant", 0.0, seed=0)
    with pytest.raises(ValueError, match="no training rows"):
        train(Toy(tiny_llama()), [], ["routers"], recipe, pad_id=0)


def test_selected_logits_equal_the_models_own() -> None:
    model = tiny_llama()
    ids = torch.randint(3, 64, (3, 7))
    picked = torch.rand(3, 7) > 0.5
    full = model(input_ids=ids).logits
    some, _ = logits_at(model, picked, input_ids=ids)
    torch.testing.assert_close(some, full[picked], rtol=0, atol=1e-13)


def test_drawing_respects_the_budget_and_takes_tasks_in_turn() -> None:
    pools = {"a": rows(10, 1, "a"), "b": rows(3, 2, "b")}
    drawn = draw(pools, tokens=60, examples=None, mixture="uniform_by_task", seed=0)
    assert sum(map(len, drawn)) <= 60
    assert [row.task for row in drawn[:4]] == ["a", "b", "a", "b"]
    everything = draw(pools, tokens=None, examples=None, mixture="uniform_by_task", seed=0)
    assert sorted((r.task, r.id) for r in everything) == sorted((r.task, r.id) for p in pools.values() for r in p)
    assert len(draw(pools, tokens=None, examples=5, mixture="proportional", seed=0)) == 5


def test_drawing_does_not_depend_on_the_order_of_rows_nor_on_other_tasks() -> None:
    pool = rows(10, 1, "a")
    one = draw({"a": pool}, tokens=None, examples=4, mixture="uniform_by_task", seed=5)
    two = draw({"a": pool[::-1]}, tokens=None, examples=4, mixture="uniform_by_task", seed=5)
    three = draw({"a": pool, "b": rows(9, 2, "b")}, tokens=None, examples=8, mixture="uniform_by_task", seed=5)
    assert one == two == [row for row in three if row.task == "a"]


def test_windows_cover_every_row_once_an_epoch() -> None:
    pool = rows(10)
    plan = windows(pool, 4, 2, seed=0)
    assert [len(w) for w in plan] == [4, 4, 2, 4, 4, 2]
    for epoch in (plan[:3], plan[3:]):
        assert sorted(row.id for w in epoch for row in w) == sorted(row.id for row in pool)
    assert [row.id for row in plan[0]] != [row.id for row in plan[3]]
