"""What routed layers of a T5 are told of a pass, and that neither a cache nor a batch changes what they do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods.routing.composed import RoutedComposed
from methods.routing.sides import reads_encoder

from .conftest import ALL, SUPPORTED, Pair, make_pair, make_t5, put, run

CACHED = [name for name in SUPPORTED if name != "xlora"]
WHOLE: dict[str, tuple[str, dict[str, Any]]] = {
    "xlora": ("xlora", {}),
    "xlora fixed": ("xlora", {"scope": "prompt_fixed", "layerwise": True}),
    "mole prompt": ("mole", {"gate.scope": "prompt_mean"}),
}


def incremental(model: Any, pair: Pair) -> Tensor:
    """Logits of the decoder's tokens, one at a time, over a cache."""
    with torch.no_grad():
        states = model.get_encoder()(input_ids=pair.ids, attention_mask=pair.mask)
        cache, found = None, []
        for column in range(pair.decoder.shape[1]):
            out = model(
                encoder_outputs=states,
                attention_mask=pair.mask,
                decoder_input_ids=pair.decoder[:, column : column + 1],
                past_key_values=cache,
                use_cache=True,
            )
            cache = out.past_key_values
            found.append(out.logits)
    return torch.cat(found, 1)


def evaluate(composed: Any, function: Any, *arguments: Any) -> Any:
    with composed.task("a", "a" if "a" in composed.experts else None):
        return function(composed.model, *arguments)


@pytest.mark.parametrize(("name", "kind"), [*((name, "flan") for name in CACHED), ("lora", "t5"), ("mixer", "t5")])
def test_a_cache_changes_nothing(name: str, kind: str) -> None:
    """Logits at t equal those of cached decoding, and do not change with the decoder's tokens after t."""
    composed, pair = put(name, kind=kind), make_pair()
    whole = evaluate(composed, run, pair)
    later = Pair(pair.ids, pair.mask, pair.decoder.clone(), pair.decoder_mask)
    later.decoder[:, 3:] = (later.decoder[:, 3:] + 7) % 60 + 2
    changed = evaluate(composed, run, later)
    assert (whole[:, :3] - changed[:, :3]).abs().max() < 1e-12
    assert (whole[0, 3:] - changed[0, 3:]).abs().max() > 1e-3
    # Cached decoding knows no padding; rows of one length need none.
    row = pair[0]
    steps, at_once = evaluate(composed, incremental, row), evaluate(composed, run, row)
    assert (steps - at_once).abs().max() < 1e-10


@pytest.mark.parametrize("name", ["xlora fixed", "mole prompt"])
def test_weights_of_the_prompt_outlive_it(name: str) -> None:
    composed, pair = put(*WHOLE[name]), make_pair()[0]
    assert (evaluate(composed, incremental, pair) - evaluate(composed, run, pair)).abs().max() < 1e-10


def test_released_xlora_refuses_a_cache() -> None:
    composed = put("xlora")
    assert not composed.kv_cache
    with pytest.raises(RuntimeError, match="without a cache"):
        incremental(composed.model, make_pair())


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("name", [*CACHED, *WHOLE])
def test_a_batch_changes_nothing(name: str, left: bool) -> None:
    """A sequence alone, and in a batch with padding on either side of the encoder's tokens."""
    composed, pair = put(*WHOLE.get(name, (name, {}))), make_pair(left=left)
    together = evaluate(composed, run, pair)
    for row in range(len(pair.ids)):
        alone = evaluate(composed, run, pair[row])[0]
        assert (together[row, : len(alone)] - alone).abs().max() < 1e-10


def test_cross_attention_is_routed_once() -> None:
    """Its values are computed at the first token and then come from the cache."""
    composed = put("mixer", targets=ALL)
    calls: dict[str, int] = dict.fromkeys(composed.sites, 0)
    for name, site in composed.sites.items():

        def count(_module: Any, _args: Any, _out: Any, name: str = name) -> None:
            calls[name] += 1

        site.register_forward_hook(count)
    model: Any = composed.model
    pair = make_pair()
    with composed.task("a", "a"):
        out = model.generate(
            input_ids=pair.ids, attention_mask=pair.mask, max_new_tokens=5, min_new_tokens=5, do_sample=False
        )
    assert out.shape == (4, 6)
    assert {calls[name] for name in calls if reads_encoder(name)} == {1}
    assert {calls[name] for name in calls if not reads_encoder(name)} == {5}


@pytest.mark.parametrize("scope", ["per_projection", "per_layer"])
def test_diagnostics_count_each_side_by_itself(scope: str) -> None:
    """Loads are those of real tokens alone: the encoder's where it is read, the decoder's elsewhere."""
    composed, pair = put("mixer", {"router.scope": scope}, targets=ALL), make_pair()
    assert isinstance(composed, RoutedComposed)
    # Equal shapes on both sides, so that masks could be mistaken for one another.
    pair = Pair(pair.ids[:, :5], pair.mask[:, :5], pair.decoder, pair.decoder_mask)
    seen: dict[str, Tensor] = {}
    for router in composed.routers:
        weights = router.weights

        def keep(x: Tensor, h: Tensor, products: Any = None, *, router: Any = router, weights: Any = weights) -> Tensor:
            w: Tensor = weights(x, h, products)
            for index, name in enumerate(router.names):
                seen[name] = w[..., index, :]
            return w

        router.weights = keep  # type: ignore[method-assign]
    evaluate(composed, run, pair)
    report = composed.diagnostics()
    assert report is not None
    for name, load in zip(report["modules"], report["per_module"]["load"], strict=True):
        mask = (pair.mask if reads_encoder(name) else pair.decoder_mask).bool()
        assert torch.allclose(torch.tensor(load, dtype=torch.float64), seen[name][mask].mean(0), atol=1e-12), name
    tokens = {int(n) for n in composed._collector._tokens.flatten()}
    assert tokens == {int(pair.mask.sum()), int(pair.decoder_mask.sum())}


def test_diagnostics_while_decoding() -> None:
    composed, pair = put("mixer"), make_pair()
    assert isinstance(composed, RoutedComposed)
    model: Any = composed.model
    with composed.task("a", "a"):
        model.generate(
            input_ids=pair.ids, attention_mask=pair.mask, max_new_tokens=3, min_new_tokens=3, do_sample=False
        )
        assert composed.diagnostics() is not None
    tokens = dict(zip(composed._collector.names, composed._collector._tokens.flatten().tolist(), strict=True))
    for name, count in tokens.items():
        assert count == (int(pair.mask.sum()) if reads_encoder(name) else 4 * 3), name


def test_random_weights_follow_the_tokens_that_are_read() -> None:
    """A changed token moves the weights at its own position and side, and nowhere else."""
    composed, pair = put("random"), make_pair()
    assert isinstance(composed, RoutedComposed)

    def weights(pair: Pair) -> dict[str, Tensor]:
        found = {}
        for router in composed.routers:
            router.followed = True
        run(composed.model, pair)
        for router in composed.routers:
            assert router.latest is not None
            for index, name in enumerate(router.names):
                found[name] = router.latest[..., index, :].expand(len(pair.ids), -1, -1)
        return found

    before = weights(pair)
    for side, column in (("ids", 2), ("decoder", 3)):
        other = Pair(pair.ids.clone(), pair.mask, pair.decoder.clone(), pair.decoder_mask)
        getattr(other, side)[0, column] += 1
        for name, now in weights(other).items():
            moved = (now != before[name]).any(-1)
            expected = torch.zeros_like(moved)
            expected[0, column] = reads_encoder(name) == (side == "ids")
            assert torch.equal(moved, expected), (name, side)


@pytest.mark.parametrize("name", ["xlora", "xlora fixed"])
def test_xlora_scores_the_unadapted_model(name: str) -> None:
    """Scalings do not depend on the experts, and follow the stack whose tokens a site reads."""
    composed, pair = put(*WHOLE[name]), make_pair()
    xlora: Any = composed
    run(composed.model, pair)
    base = make_t5()
    with torch.no_grad():
        states = base.get_encoder()(input_ids=pair.ids, attention_mask=pair.mask).last_hidden_state
        decoded = base.get_decoder()(
            input_ids=pair.decoder,
            attention_mask=pair.decoder_mask,
            encoder_hidden_states=states,
            encoder_attention_mask=pair.mask,
        ).last_hidden_state
        last = states[torch.arange(4), pair.mask.sum(1) - 1].unsqueeze(1)
        encoder, decoder = (last, last) if name == "xlora fixed" else (states, decoded)
        for found, hidden in ((xlora.of_encoder, encoder), (xlora.scalings, decoder)):
            assert torch.allclose(found.logits, xlora.classifier(hidden), atol=1e-12)


def test_prompt_means_of_the_decoder_are_those_of_its_start() -> None:
    composed, pair = put(*WHOLE["mole prompt"]), make_pair()
    assert isinstance(composed, RoutedComposed)
    seen = {}
    for router in composed.routers:
        router.followed = True
    run(composed.model, pair)
    for router in composed.routers:
        assert router.latest is not None
        seen[router.names[0]] = router.latest
    for w in seen.values():
        assert (w - w[:, :1]).abs().max() < 1e-12
    short = Pair(pair.ids, pair.mask, pair.decoder[:, :1], pair.decoder_mask[:, :1])
    run(composed.model, short)
    for router in composed.routers:
        assert router.latest is not None
        assert (router.latest[:, 0] - seen[router.names[0]][:, 0]).abs().max() < 1e-12


def test_states_of_another_prompt_are_refused() -> None:
    composed, pair = put("mixer"), make_pair()
    model: Any = composed.model
    run(model, pair)
    with pytest.raises(RuntimeError, match="another encoder pass"):
        model(encoder_outputs=(torch.zeros(2, 3, 32, dtype=torch.float64),), decoder_input_ids=pair.decoder[:2])
