"""One expert alone: named, or the best of the pool on development rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from methods import conformance, registry
from methods.base import Expert, MethodConfig, Unsupported
from methods.best_single import Single
from methods.conformance import logits
from methods.experts import save_expert
from methods.lora import Lora
from methods.tiny import TinySession, model_logits, tiny_batch, tiny_experts, tiny_llama

NAMES = ("a", "b", "c")


def pool() -> tuple[Any, list[Expert]]:
    model = tiny_llama(dtype=torch.float64)
    return model, tiny_experts(model, NAMES)


def alone(expert: Expert) -> Tensor:
    return logits(registry.create("lora").install(tiny_llama(dtype=torch.float64), [expert], seed=0))


def test_a_named_expert_serves_every_task() -> None:
    own, named = registry.create("lora"), registry.create("lora", {"expert": "b"})
    assert own.uses_task_identity
    assert own.per_task()
    assert not named.uses_task_identity
    assert not named.per_task()
    assert own.depends_on(NAMES, "a") == ("a",)
    assert named.depends_on(NAMES, "a") == named.depends_on(NAMES, None) == ("b",)
    assert not own.serves(NAMES, None)
    assert named.serves(NAMES, None)


def test_a_named_expert_conforms() -> None:
    """In all but its card, which speaks of the default."""
    subject = conformance.Subject("lora", {"expert": "b"})
    for check in conformance.CHECKS:
        if check is not conformance.card_agrees:
            check(subject)
    assert subject.install().experts == ("b",)


def test_a_name_that_the_pool_lacks_is_one_sentence() -> None:
    with pytest.raises(Unsupported, match=r"^The pool has no expert 'gsm8': did you mean gsm8k\?$"):
        registry.create("lora", {"expert": "gsm8"}).check(tiny_llama().config, ("gsm8k", "arc"))


def test_a_new_key_leaves_names_of_results_alone() -> None:
    assert registry.create("lora").config.identity() == {}
    assert registry.create("lora", {"expert": "b"}).config.identity() == {"expert": "b"}
    assert "expert" in registry.config_keys("lora")
    dare = registry.create("dare").config
    assert dare.identity() == dare.model_dump(mode="json")
    assert MethodConfig().identity() == {}
    assert isinstance(registry.create("lora"), Lora)


class Losses(TinySession):
    """A loss by task and expert; remembers what it was asked."""

    def __init__(self, losses: dict[str, list[float]], task: str | None = None) -> None:
        super().__init__(task=task)
        self.losses = losses
        self.asked: list[tuple[str, int]] = []

    def loss(self, composed: Any, data: str, n: int) -> float:
        assert not composed.model.training
        self.asked.append((data, n))
        return self.losses[data.removeprefix("dev:")][composed.chosen]


# By the mean over tasks `b` is best, by rows of `a` alone it is `c`.
LOSSES = {"a": [2.0, 1.5, 1.4], "b": [1.0, 1.1, 1.6]}


@pytest.mark.parametrize(("mode", "task", "best"), [("pooled", None, 1), ("per_task", "a", 2), ("per_task", "b", 0)])
def test_the_lowest_mean_over_tasks_is_chosen(mode: str, task: str | None, best: int) -> None:
    model, experts = pool()
    method, session = registry.create("best-single", {"mode": mode}), Losses(LOSSES, task)
    composed = method.install(model, experts, seed=0)
    assert isinstance(composed, Single)
    assert torch.equal(logits(composed), logits(tiny_llama(dtype=torch.float64)))
    method.fit(composed, session)
    tasks = [task] if task else ["a", "b"]
    assert session.asked == [(f"dev:{one}", 16) for _ in NAMES for one in tasks]
    assert composed.chosen == best
    assert method.uses_task_identity == (mode == "per_task")
    assert method.notes(composed) == [f"best-single: the expert {NAMES[best]}, chosen on development rows."]
    assert torch.allclose(logits(composed), alone(experts[best]), atol=1e-12)
    assert session.notes[-1] == {"phase": "found", "expert": NAMES[best], "dev_loss": session.notes[best]["dev_loss"]}


def test_a_diverged_expert_is_not_chosen() -> None:
    model, experts = pool()
    method = registry.create("best-single")
    composed = method.install(model, experts, seed=0)
    method.fit(composed, Losses({"a": [float("nan"), 9.0, 9.5], "b": [0.0, 9.0, 9.5]}))
    assert composed.state()["chosen"].tolist() == [1]


def test_losses_that_are_nowhere_finite_are_a_failure() -> None:
    model, experts = pool()
    method = registry.create("best-single")
    with pytest.raises(RuntimeError, match="finite"):
        method.fit(method.install(model, experts, seed=0), Losses(dict.fromkeys("ab", [float("nan")] * 3)))


def test_the_order_of_experts_does_not_matter() -> None:
    model, experts = pool()
    method = registry.create("best-single")
    composed = method.install(model, experts[::-1], seed=0)
    method.fit(composed, Losses({task: row[::-1] for task, row in LOSSES.items()}))
    assert torch.allclose(logits(composed), alone(experts[1]), atol=1e-12)


def test_it_is_peft_with_that_adapter(tmp_path: Path) -> None:
    from peft import PeftModel

    model, experts = pool()
    composed = registry.create("best-single").install(model, experts, seed=0)
    batch = tiny_batch()
    for index, expert in enumerate(experts):
        assert isinstance(composed, Single)
        composed.choose(index)
        save_expert(expert, tmp_path / expert.name, base_model="tiny")
        theirs: Any = PeftModel.from_pretrained(tiny_llama(dtype=torch.float64), str(tmp_path / expert.name))
        with torch.no_grad():
            expected = theirs.eval()(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
            found = model_logits(model, batch.input_ids, batch.attention_mask)
        assert torch.allclose(found, expected, atol=1e-10)


def test_nothing_is_merged_before_the_choice() -> None:
    model, experts = pool()
    composed = registry.create("best-single").install(model, experts, seed=0)
    with pytest.raises(Unsupported, match="no expert is chosen yet"):
        composed.merged("x")
    composed.load_state({"chosen": torch.tensor([2])})
    assert composed.merged("x").sites == experts[2].sites
