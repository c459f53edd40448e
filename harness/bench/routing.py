"""What routing costs: a routed model against its base, against PEFT's X-LoRA, and against a loop over experts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.bench.composed import TOP_K, LoopLinear, PeftLoop, base_model, copied, looped, pool, routed
from harness.bench.measure import Options, Row, by_turns, multiply_adds, timed
from harness.bench.xlora_peer import xlora
from harness.training.loop import window_backward
from methods.routing.composed import RoutedComposed
from methods.routing.frozen import input_device

EXPERTS, RANK = 6, 16
ROWS, LENGTH, TARGETS = 8, 64, 8
STEPS, XLORA_STEPS = 32, 12
LOOPS = {"loop as in PEFT": (PeftLoop, 2.0), "tightest loop": (LoopLinear, 1.5)}
"""Loops over experts, and how many times as fast the routed layer is to be."""
DECODING = {1: 1.15, 8: 1.12}
"""Rows decoded at once, and what a token may cost of the base's."""
SETTING = f"{EXPERTS} experts, rank {RANK}, top-{TOP_K}, q/k/v/o"


def routing(options: Options) -> Iterator[Row]:
    """Prefill, decoding, the layer alone, and a step of router training."""
    base: Any = base_model(options).model
    model = copied(base)
    experts = pool(model, EXPERTS, RANK)
    composed = routed(model, experts)
    if options.wants("prefill"):
        where = f"{SETTING}; {ROWS} prompts of {LENGTH} tokens"
        ids = tokens(model, ROWS, LENGTH)
        ours, theirs = (lambda: prefill(model, ids)), (lambda: prefill(base, ids))
        yield overhead("prefill", where, ours, theirs, options, 1.15)
    for rows, target in DECODING.items():
        if options.wants(name := f"decoding, batch {rows}"):
            where = f"{SETTING}; {STEPS} steps after a prompt of {LENGTH} tokens"
            routed_side, base_side = (Decoding(one, rows, LENGTH, STEPS) for one in (model, base))
            yield overhead(name, where, routed_side, base_side, options, target)
    if options.wants("decoding against X-LoRA"):
        with tempfile.TemporaryDirectory(prefix="harness-xlora-") as scratch:
            yield against_xlora(model, copied(base), experts, Path(scratch), options)
    composed.uninstall()
    for name, (kind, target) in LOOPS.items():
        if options.wants(f"routed layer alone, {name}"):
            yield layer(model, experts, name, kind, target, options)
    if options.wants("step of router training"):
        yield training_step(model, experts, options)


def overhead(
    name: str,
    setting: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    options: Options,
    target: float | None,
    *,
    peer: str = "base model",
    limit: float | None = None,
    agreement: str = "",
) -> Row:
    """The same work on the routed model and on the base; `limit` is counted where it is not given."""
    limit = multiply_adds(ours) / multiply_adds(theirs) if limit is None else limit
    seconds, peer_seconds = by_turns(ours, theirs, options)
    return Row(
        name=name,
        setting=setting,
        peer=peer,
        seconds=seconds,
        peer_seconds=peer_seconds,
        limit=limit,
        target=target,
        kind="overhead",
        agreement=agreement,
    )


def tokens(model: Any, rows: int, length: int, seed: int = 0) -> Tensor:
    """Random token ids `[rows, length]`, where the model is given its inputs."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(3, model.config.vocab_size, (rows, length), generator=draw).to(input_device(model))


@torch.no_grad()
def prefill(model: Any, ids: Tensor) -> Tensor:
    """Prompts `[rows, length]` through the model, with logits of their last tokens, `[rows, 1, vocabulary]`."""
    last: Tensor = model(input_ids=ids, use_cache=True, logits_to_keep=1).logits
    return last


class Decoding:
    """Steps of greedy decoding from a prompt that is in the cache already."""

    def __init__(self, model: Any, rows: int, prompt: int, steps: int) -> None:
        from transformers import DynamicCache

        self.model, self.steps = model, steps
        self.cache = DynamicCache(config=model.config)
        with torch.no_grad():
            output = model(
                input_ids=tokens(model, rows, prompt), past_key_values=self.cache, use_cache=True, logits_to_keep=1
            )
        self.first = output.logits[:, -1].argmax(-1, keepdim=True)

    @torch.no_grad()
    def __call__(self) -> Tensor:
        """Generated ids `[rows, steps]`; the cache holds the prompt alone again afterwards."""
        made, ids = [], self.first
        for _ in range(self.steps):
            ids = self.model(input_ids=ids, past_key_values=self.cache, use_cache=True).logits[:, -1].argmax(-1, True)
            made.append(ids)
        self.cache.crop(-self.steps)
        return torch.cat(made, 1)


def against_xlora(model: Any, other: Any, experts: Any, folder: Path, options: Options) -> Row:
    """Greedy generation of one row by both, each as its users call it: PEFT's X-LoRA allows no cache."""
    peer = xlora(other, experts, folder, top_k=TOP_K).to(input_device(model))
    prompt = tokens(model, 1, LENGTH)
    settings = {"max_new_tokens": XLORA_STEPS, "min_new_tokens": XLORA_STEPS, "do_sample": False, "pad_token_id": 0}
    mask = torch.ones_like(prompt)

    def generate(one: Any) -> Tensor:
        made: Tensor = one.generate(input_ids=prompt, attention_mask=mask, **settings)
        return made

    with torch.no_grad():
        limit = multiply_adds(lambda: generate(peer)) / multiply_adds(lambda: generate(model))
        seconds, peer_seconds = by_turns(lambda: generate(model), lambda: generate(peer), options)
    return Row(
        name="decoding against X-LoRA",
        setting=f"{SETTING}, the same experts; batch 1, prompt {LENGTH}, {XLORA_STEPS} new tokens by generate()",
        peer="PEFT X-LoRA",
        seconds=seconds,
        peer_seconds=peer_seconds,
        limit=limit,
        target=5.0,
    )


def layer(model: Any, experts: Any, name: str, kind: type[LoopLinear], target: float, options: Options) -> Row:
    """The four projections of one attention layer, forward and backward, over 512 tokens."""
    fused = routed(model, experts)
    ours = LayerWork(fused)
    ours()
    limit_ours = multiply_adds(ours)
    fused.uninstall()
    plain = routed(model, experts, fuse=False)
    with looped(plain, kind):
        theirs = LayerWork(plain)
        limit = multiply_adds(theirs) / limit_ours
        # Both keep their own modules, so it does not matter which of them is in the model.
        seconds, peer_seconds = by_turns(ours, theirs, options)
    plain.uninstall()
    return Row(
        name=f"routed layer alone, {name}",
        setting=f"{SETTING} of one layer, {ROWS * LENGTH} tokens, forward and backward to input and routers",
        peer="loop over experts",
        seconds=seconds,
        peer_seconds=peer_seconds,
        limit=limit,
        target=target,
        agreement=difference(ours.gradients(), theirs.gradients()),
    )


class LayerWork:
    """q, k, v on one input and o on another, repeated: outputs summed, gradients to inputs and routers."""

    def __init__(self, composed: RoutedComposed, repeats: int = 10) -> None:
        attention: Any = composed.model.get_submodule("model.layers.0.self_attn")
        self.context, self.repeats = composed.context, repeats
        self.sites = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
        draw = torch.Generator().manual_seed(0)
        shape = (ROWS, LENGTH, self.sites[0].base.in_features)
        like = self.sites[0].base.weight
        self.inputs = [random(shape, draw, like).requires_grad_() for _ in range(2)]
        self.outside = [random((ROWS, LENGTH, s.base.out_features), draw, like) for s in self.sites]
        parameters = composed.groups()["routers"]
        self.routers = [p for name, p in parameters.items() if "layers.0.self_attn" in name]

    def __call__(self) -> None:
        """Leaves the gradients of the last repetition."""
        q, k, v, o = self.sites
        self.context.token_mask = None
        for _ in range(self.repeats):
            for leaf in (*self.inputs, *self.routers):
                leaf.grad = None
            x, between = self.inputs
            torch.autograd.backward([q(x), k(x), v(x), o(between)], self.outside)

    def gradients(self) -> list[Tensor]:
        """Of the inputs and the routers."""
        return [leaf.grad for leaf in (*self.inputs, *self.routers) if leaf.grad is not None]


def random(shape: Sequence[int], draw: torch.Generator, like: Tensor) -> Tensor:
    """Normal numbers of that shape, drawn on the processor, in the type and on the device of `like`."""
    return torch.randn(shape, generator=draw, dtype=like.dtype).to(like.device)


def difference(ours: list[Tensor], theirs: list[Tensor]) -> str:
    """The largest relative difference of two lists of gradients, in words."""
    worst = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True))
    return f"gradients differ by at most {worst:.1e} of the largest"


def training_step(model: Any, experts: Any, options: Options) -> Row:
    """One optimiser step of the routers: 8 sequences of 64 tokens, loss on the last 8."""
    window = [micro_batch(model, ROWS, LENGTH, TARGETS)]
    seconds: list[float] = []
    peer_seconds: list[float] = []
    work, gradients = {}, {}

    def step(composed: RoutedComposed, key: str) -> None:
        parameters = list(composed.groups()["routers"].values())
        optimizer = torch.optim.AdamW(parameters, lr=0.0)

        def once() -> None:
            optimizer.zero_grad()
            window_backward(composed, model, window, lambda loss: loss.backward())
            optimizer.step()

        if key not in work:
            work[key] = multiply_adds(once)
            gradients[key] = [p.grad.clone() for p in parameters if p.grad is not None]
        (seconds if key == "ours" else peer_seconds).append(timed(once, options.clock, options.device)[0])

    def ours() -> None:
        composed = routed(model, experts)
        trainable(composed)
        step(composed, "ours")
        composed.uninstall()

    def theirs() -> None:
        composed = routed(model, experts, fuse=False)
        trainable(composed)
        with looped(composed):
            step(composed, "theirs")
        composed.uninstall()

    for turn in range(options.repetitions):
        for side in (ours, theirs) if turn % 2 == 0 else (theirs, ours):
            side()
    return Row(
        name="step of router training",
        setting=f"{SETTING}; {ROWS} sequences of {LENGTH} tokens, loss on {TARGETS} of each",
        peer="loop over experts",
        seconds=seconds,
        peer_seconds=peer_seconds,
        limit=work["theirs"] / work["ours"],
        target=1.15,
        agreement=difference(gradients["ours"], gradients["theirs"]),
    )


def micro_batch(model: Any, rows: int, length: int, targets: int) -> dict[str, Tensor]:
    """Random rows as training collates them, `[rows, length]`: all of one task, with a loss on the last targets."""
    ids = tokens(model, rows, length)
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": torch.where(torch.arange(length, device=ids.device) >= length - targets, ids, -100),
        "domain": torch.zeros(rows, dtype=torch.long, device=ids.device),
    }


def trainable(composed: RoutedComposed) -> None:
    """Let gradients flow to the routers alone."""
    for parameter in composed.groups()["routers"].values():
        parameter.requires_grad_(True)
