"""Average-activation gating: gates are means of what an expert's own rows put in, seen with that expert alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.base import Unsupported
from methods.phatgoose import standardised
from methods.routing.composed import RoutedComposed
from methods.tiny import TinySession, tiny_experts, tiny_llama

NAMES = ("a", "b", "c", "d")


def fitted(**overrides: Any) -> RoutedComposed:
    model = tiny_llama(dtype=torch.float64)
    method = registry.create("avg-act", overrides)
    composed = method.install(model, tiny_experts(model, NAMES), seed=0)
    method.fit(composed, TinySession())
    assert isinstance(composed, RoutedComposed)
    return composed


@pytest.mark.parametrize("normalise", [True, False])
def test_gates_are_means_over_the_experts_own_rows(normalise: bool, naive: Any) -> None:
    """Of the inputs in a plain model with that expert alone: over tokens, then over sequences, padding left out."""
    gates = fitted(normalise=normalise).state()
    experts = tiny_experts(tiny_llama(dtype=torch.float64), NAMES)
    for own, name in enumerate(NAMES):
        seen: dict[str, Tensor] = {}

        def weigh(path: str, x: Tensor, deltas: list[Tensor], own: int = own, seen: Any = seen) -> Tensor:
            seen[path] = x
            return torch.nn.functional.one_hot(torch.tensor(own), len(NAMES)).to(x).expand(*x.shape[:-1], -1)

        batch = TinySession()._batch(fitted_shell(), f"expert:{name}", 0)
        with torch.no_grad():
            naive(experts, weigh)(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        for key, found in gates.items():
            x = seen[key.removeprefix("routers.").removesuffix(".gates")]
            x = standardised(x) if normalise else x
            rows = [x[row][mask.bool()].mean(0) for row, mask in enumerate(batch.attention_mask)]
            assert (found[own] - torch.stack(rows).mean(0)).abs().max() < 1e-10


def fitted_shell() -> Any:
    """What `TinySession` asks of a composed model to draw its batch: the names of the experts."""
    return type("Shell", (), {"experts": NAMES})()


def test_inference_equals_a_loop(naive: Any, topk: Any, logits: Any) -> None:
    """PHATGOOSE's score with these gates; q, k and v, which read one input, are routed alike."""
    composed = fitted()
    gates = {key.removeprefix("routers.").removesuffix(".gates"): v for key, v in composed.state().items()}
    assert {path.rpartition(".")[2] for path in gates} == {"q_proj", "o_proj"}

    def weigh(path: str, x: Tensor, deltas: list[Tensor]) -> Tensor:
        v = gates[path.replace("k_proj", "q_proj").replace("v_proj", "q_proj")]
        return topk((standardised(x) @ standardised(v).T / x.shape[-1] ** 0.5).softmax(-1), 2)

    expected = logits(naive(tiny_experts(tiny_llama(dtype=torch.float64), NAMES), weigh))
    assert (logits(composed.model) - expected).abs().max() < 1e-9


def test_the_average_of_one_task_is_found_again() -> None:
    """A gate that is a token's own direction scores highest there, whatever the sizes of the averages."""
    composed = fitted()
    provider: Any = composed.routers[0].providers[0]
    x = torch.randn(4, 1, 32, dtype=torch.float64)
    with torch.no_grad():
        provider.gates.copy_(x[:, 0] * torch.tensor([0.1, 1.0, 10.0, 100.0], dtype=torch.float64)[:, None])
    scores = composed.routers[0].bank.logits(x, x)[:, 0, 0]
    assert scores.argmax(-1).tolist() == [0, 1, 2, 3]
    assert (scores.diagonal() - 32**0.5).abs().max() < 1e-2


def test_nothing_is_trained_and_all_is_kept(logits: Any) -> None:
    composed = fitted()
    assert composed.groups() == {}
    assert composed.stored()["routers"] == 4 * 2 * 2 * 32
    state, expected = composed.state(), logits(composed.model)
    model = tiny_llama(dtype=torch.float64)
    fresh = registry.create("avg-act").install(model, tiny_experts(model, NAMES), seed=0)
    assert (logits(model) - expected).abs().max() > 1e-4
    fresh.load_state(state)
    assert torch.equal(logits(model), expected)
    with pytest.raises(KeyError, match="state names differ"):
        fresh.load_state(dict(list(state.items())[1:]))


def test_small_pools_are_refused() -> None:
    with pytest.raises(Unsupported, match=r"set route\.eval_k below 2"):
        registry.create("avg-act").check(tiny_llama().config, NAMES[:2])
    assert not registry.create("avg-act").has_learning_rate()
