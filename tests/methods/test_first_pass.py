"""Retrieval and LoGo: a first pass over the prompt decides for the whole text, and what follows changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods import registry
from methods.adapter_file import SiteShape
from methods.base import Composed, Expert, SiteFactors, Unsupported
from methods.logo import scores
from methods.pool import PoolExpert
from methods.retrieval import RetrievalComposed
from methods.tiny import TinySession, tiny_batch, tiny_experts, tiny_llama, tiny_model

NAMES = ("a", "b", "c", "d")
LISTENED = "model.layers.1.self_attn.q_proj"


def compose(name: str, overrides: dict[str, Any] | None = None) -> Composed:
    model = tiny_llama(dtype=torch.float64)
    method = registry.create(name, overrides)
    composed = method.install(model, tiny_experts(model, NAMES), seed=0)
    method.fit(composed, TinySession())
    return composed


def states(batch: Any) -> Tensor:
    with torch.no_grad():
        plain = tiny_llama(dtype=torch.float64).model
        return plain(input_ids=batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state


def embedded(batch: Any, prompt: Tensor) -> Tensor:
    means = torch.stack([h[mask].mean(0) for h, mask in zip(states(batch), prompt, strict=True)])
    return means / means.norm(dim=-1, keepdim=True)


def whole(weights: Tensor) -> Any:
    """A naive model's weights `[b, N]`, the same at every token and site."""
    return lambda path, x, deltas: weights[:, None].expand(-1, x.shape[1], -1)


def test_rows_are_remembered_by_their_prompts() -> None:
    """Unit means of the base's last hidden states over prompt tokens alone, in the experts' order."""
    composed = compose("retrieval")
    assert isinstance(composed, RetrievalComposed)
    assert composed.counts.tolist() == [8] * 4
    for own, name in enumerate(NAMES):
        batch = TinySession()._batch(composed, f"expert:{name}", 0)
        expected = embedded(batch, batch.attention_mask.bool() & (batch.labels == -100))
        assert (composed.embeddings[own, :8] - expected).abs().max() < 1e-10
        assert (composed.embeddings[own, 8:] == 0).all()
    assert composed.stored()["routers"] == 4 * 512 * 32


@pytest.mark.parametrize("k", [1, 2])
def test_the_nearest_row_decides(k: int, naive: Any, topk: Any, logits: Any) -> None:
    composed = compose("retrieval", {"eval_k": k, "tau": 0.05})
    assert isinstance(composed, RetrievalComposed)
    batch = tiny_batch()
    found = embedded(batch, batch.attention_mask.bool())
    nearest = torch.stack([(found @ own[:8].T).amax(-1) for own in composed.embeddings], -1)
    expected = naive(tiny_experts(tiny_llama(dtype=torch.float64), NAMES), whole(topk((nearest / 0.05).softmax(-1), k)))
    assert (logits(composed.model) - logits(expected)).abs().max() < 1e-9


def test_a_remembered_row_finds_its_own_expert() -> None:
    """A prompt that is among the rows goes to their owner, whichever expert that is."""
    composed = compose("retrieval")
    for name in NAMES:
        batch = TinySession()._batch(composed, f"expert:{name}", 0)
        composed.context.prompt_mask = batch.attention_mask.bool() & (batch.labels == -100)
        with composed.task("x", name), torch.no_grad():
            composed.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        report = composed.diagnostics()
        assert report is not None
        assert report["load"][NAMES.index(name)] == pytest.approx(1)


def test_scores_of_outputs() -> None:
    """Norms; and one over an entropy, which a peaked output makes large and a constant one 1 / ln d."""
    outputs = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0], [20.0, 0.0, 0.0]], dtype=torch.float64)
    assert scores(outputs, "norm").tolist() == [5, 0, 20]
    found = scores(outputs, "entropy")
    assert found[1].item() == pytest.approx(1 / torch.tensor(3.0).log().item())
    assert found[2] > found[0] > found[1]


@pytest.mark.parametrize(
    "overrides", [{}, {"signal": "entropy", "route.eval_k": 2}, {"layer": "first", "route.dense": True}], ids=str
)
def test_logo_equals_a_loop(overrides: dict[str, Any], naive: Any, topk: Any, logits: Any) -> None:
    """Scores at the last token of a plain base's pass, the largest over their sum, for all tokens and sites."""
    composed = compose("logo", overrides)
    experts = tiny_experts(tiny_llama(dtype=torch.float64), NAMES)
    batch = tiny_batch()
    site = LISTENED.replace("1", "0") if overrides.get("layer") == "first" else LISTENED
    plain, heard = tiny_llama(dtype=torch.float64), []
    plain.get_submodule(site).register_forward_pre_hook(lambda _, args: heard.append(args[0]))
    logits(plain)
    x = heard[0][torch.arange(8), batch.attention_mask.sum(1) - 1]
    outputs = torch.stack([f.scale * x @ f.A.T @ f.B.T for f in (e.sites[site] for e in experts)], 1)
    kept = topk(scores(outputs, overrides.get("signal", "norm")), overrides.get("route.eval_k", 3), "none")
    kept = scores(outputs, "norm") if overrides.get("route.dense") else kept
    expected = naive(experts, whole(kept / kept.sum(-1, keepdim=True)))
    assert (logits(composed.model) - logits(expected)).abs().max() < 1e-9
    assert composed.groups() == {}
    assert not registry.create("logo").trains()


@pytest.mark.parametrize("targets", [("lm_head",), ("q_proj", "lm_head")], ids=str)
def test_logo_listens_to_the_output_layer_where_there_is_nothing_else(
    targets: tuple[str, ...], naive: Any, topk: Any, logits: Any
) -> None:
    """The first pass ends before it, at its input; a site in a block is listened to where there is one."""
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model, NAMES, targets=targets)
    registry.create("logo", {"route.eval_k": 2}).install(model, experts, seed=0)
    batch, site = tiny_batch(), LISTENED if "q_proj" in targets else "lm_head"
    plain, heard = tiny_llama(dtype=torch.float64), []
    plain.get_submodule(site).register_forward_pre_hook(lambda _, args: heard.append(args[0]))
    logits(plain)
    x = heard[0][torch.arange(8), batch.attention_mask.sum(1) - 1]
    outputs = torch.stack([f.scale * x @ f.A.T @ f.B.T for f in (e.sites[site] for e in experts)], 1)
    kept = topk(scores(outputs, "norm"), 2, "none")
    expected = naive(experts, whole(kept / kept.sum(-1, keepdim=True)))
    assert (logits(model) - logits(expected)).abs().max() < 1e-9


def test_logo_leaves_out_experts_that_say_nothing(logits: Any) -> None:
    """One without the site, and one whose B is zero there, when two others have something to say."""
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model, NAMES)
    without = {site: f for site, f in experts[1].sites.items() if site != LISTENED}
    mute = {s: SiteFactors(f.A, f.B * (s != LISTENED), f.scale) for s, f in experts[2].sites.items()}
    pool = [experts[0], Expert("b", without), Expert("c", mute), experts[3]]
    composed = registry.create("logo", {"route.eval_k": 2}).install(model, pool, seed=0)
    with composed.task("x", "a"):
        logits(model)
    report = composed.diagnostics()
    assert report is not None
    assert [report["load"][n] for n in (1, 2)] == [0, 0]
    assert min(report["load"][n] for n in (0, 3)) > 0


@pytest.mark.parametrize("name", ["retrieval", "logo"])
def test_what_follows_a_prompt_does_not_move_its_weights(name: str, logits: Any) -> None:
    """Logits of the prompt are the same whatever comes after it, where the prompt is marked; else they move."""
    composed = compose(name)
    batch = tiny_batch()
    prompt = batch.attention_mask.bool() & (batch.labels == -100)
    other = torch.where(prompt, batch.input_ids, (batch.input_ids + 7) % 60 + 3)
    for marked in (True, False):
        outcomes = []
        for ids in (batch.input_ids, other):
            composed.context.prompt_mask = prompt if marked else None
            with torch.no_grad():
                out = composed.model(input_ids=ids, attention_mask=batch.attention_mask).logits
            outcomes.append(out[prompt])
        if marked:
            assert (outcomes[0] - outcomes[1]).abs().max() < 1e-10
    with torch.no_grad():
        first = composed.model(input_ids=batch.input_ids, use_cache=True)
        with pytest.raises(RuntimeError, match="pass the prompt first"):
            composed.model(input_ids=batch.input_ids[:3, :1], past_key_values=first.past_key_values)


@pytest.mark.parametrize("name", ["retrieval", "avg-act"])
def test_every_expert_needs_rows_of_its_own(name: str) -> None:
    """Found out while a run is planned, and said with the expert's name."""
    rows = frozenset({"router-train"})
    pool = [PoolExpert(n, dict, (lambda: rows) if n != "c" else frozenset) for n in NAMES]
    method = registry.create(name)
    assert method.takes(pool[:2]) is None
    assert "this source has none for 'c'" in (method.takes(pool) or "")


def test_logo_says_so_when_a_run_is_planned() -> None:
    cross, own = ("decoder.block.0.layer.1.EncDecAttention.k", "encoder.block.0.layer.0.SelfAttention.q")
    shape = SiteShape(4, 32, 32)
    decoder = PoolExpert("a", lambda: {cross: shape}, frozenset)
    both = PoolExpert("b", lambda: {cross: shape, own: shape}, frozenset)
    assert "no expert has factors in the encoder" in (registry.create("logo").takes([decoder]) or "")
    assert registry.create("logo").takes([decoder, both]) is None


def test_logo_needs_experts_where_the_prompt_is_read() -> None:
    model = tiny_model("t5")
    experts = [
        Expert(e.name, {s: f for s, f in e.sites.items() if s.startswith("decoder.")}) for e in tiny_experts(model)
    ]
    before = dict(model.named_modules())
    with pytest.raises(Unsupported, match="need factors in the encoder"):
        registry.create("logo").install(model, experts, seed=0)
    assert dict(model.named_modules()) == before
