"""What routing costs on a GPU: prefill, decoding as a captured graph and without, and a step of router training.

Every row runs on any device; without CUDA a captured pass is the pass itself (`harness.bench.captured`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harness.bench.captured import Prefill, StaticDecoding
from harness.bench.composed import base_model, copied, looped, pool, routed
from harness.bench.measure import Options, Row, multiply_adds
from harness.bench.routing import EXPERTS, RANK, SETTING, Decoding, difference, micro_batch, overhead, trainable
from harness.models import BaseModel
from harness.planning.sections import ExpertsSection
from harness.training.experts import trainable_lora
from harness.training.loop import window_backward
from methods.base import Composed, Expert
from methods.routing.composed import RoutedComposed

ROWS, LENGTH = 4, 512
"""Prompts of a prefill, and tokens of each."""
TRAINED, TARGETS = 8, 64
"""Rows of `LENGTH` tokens in a training step, and how many tokens of each have a loss."""
PROMPT, STEPS = 64, 32
"""Tokens of a prompt that is decoded from, and tokens decoded."""
DECODED = (1, 8)
"""Rows decoded at once."""
PREFILL, DECODING, TRAINING = 1.1, 1.15, 1.3
"""What each may cost, of the base's; and training, of one LoRA's step. Decoding has a target as a captured graph."""
PREFILL_ROW = f"prefill {ROWS}x{LENGTH}"
STEP = "step of router training against one LoRA's"
GRAPH, KERNELS = ", captured graph", ", routing kernels"
"""What is added to the names of rows."""


def accelerator(options: Options) -> Iterator[Row]:
    """Prefill and decoding against the base, captured and not, and a training step against that of one LoRA; on a GPU
    the captured passes once more with the kernels of `RoutedComposed.use_kernels`."""
    base = base_model(options)
    plain: Any = base.model
    model = copied(plain)
    experts = pool(model, EXPERTS, RANK)
    prefills = any(options.wants(f"{PREFILL_ROW}{more}") for more in ("", GRAPH, GRAPH + KERNELS))
    reference = looped_logits(model, experts) if prefills else torch.empty(0)
    gradients = looped_gradients(model, experts) if options.wants(STEP) else []
    composed = routed(model, experts)
    # What can fail on a device that nobody has tried comes last.
    if options.wants(PREFILL_ROW):
        yield prefill(PREFILL_ROW, composed, plain, reference, options)
    if options.wants(STEP):
        yield training_step(composed, base, gradients, options)
    for rows in DECODED:
        if options.wants(name := f"decoding, batch {rows}"):
            yield decoding(name, composed, plain, rows, options)
    for more in (GRAPH, GRAPH + KERNELS) if torch.device(options.device).type == "cuda" else (GRAPH,):
        for rows in DECODED:
            if options.wants(name := f"decoding, batch {rows}{more}"):
                yield decoding(name, composed, plain, rows, options)
        if options.wants(name := f"{PREFILL_ROW}{more}"):
            yield prefill(name, composed, plain, reference, options)
    composed.uninstall()


def looped_logits(model: Any, experts: list[Expert]) -> Tensor:
    """What `Prefill` gives where every routed layer is a loop over its experts."""
    composed = routed(model, experts, fuse=False)
    with looped(composed):
        logits = Prefill(model, ROWS, LENGTH, capture=False)()
    composed.uninstall()
    return logits


def looped_gradients(model: Any, experts: list[Expert]) -> list[Tensor]:
    """What `TrainingStep` leaves at the routers where every routed layer is a loop over its experts."""
    composed = routed(model, experts, fuse=False)
    with looped(composed):
        trainable(composed)
        step = TrainingStep(composed, composed.groups()["routers"])
        step()
    composed.uninstall()
    return step.gradients()


@contextmanager
def as_named(name: str, composed: RoutedComposed) -> Iterator[bool]:
    """Inside the block routed layers use kernels where the row's name says so; gives whether passes are captured."""
    composed.use_kernels(KERNELS in name)
    try:
        yield GRAPH in name
    finally:
        composed.use_kernels(False)


def prefill(name: str, composed: RoutedComposed, base: Any, reference: Tensor, options: Options) -> Row:
    """Prompts through both models, with the logits of their last tokens, held against `reference`."""
    eager = [Prefill(one, ROWS, LENGTH, capture=False) for one in (composed.model, base)]
    limit = multiply_adds(eager[0]) / multiply_adds(eager[1])
    with as_named(name, composed) as capture:
        ours, theirs = (
            [Prefill(one, ROWS, LENGTH, capture=True) for one in (composed.model, base)] if capture else eager
        )
        made = ours()
        apart = (made - reference).float().abs().amax(-1) / reference.abs().max()
        same = f"; equal to the bit without a graph: {torch.equal(made, eager[0]())}" if capture else ""
        return overhead(
            name,
            f"{SETTING}; {ROWS} prompts of {LENGTH} tokens",
            ours,
            theirs,
            options,
            PREFILL,
            limit=limit,
            agreement=f"logits of the last tokens differ from a loop's by {apart.median():.1e} of the largest in the "
            f"median, and at most by {apart.max():.1e}{same}",
        )


def decoding(name: str, composed: RoutedComposed, base: Any, rows: int, options: Options) -> Row:
    """Greedy steps of both models over a static cache; their texts are held against those of a cache that grows, and
    captured ones against those of the same steps without a graph."""
    models = (composed.model, base)
    counted = [multiply_adds(StaticDecoding(one, rows, PROMPT, STEPS, capture=False).step) for one in models]
    with as_named(name, composed) as capture:
        eager = [StaticDecoding(one, rows, PROMPT, STEPS, capture=False) for one in models]
        sides = [StaticDecoding(one, rows, PROMPT, STEPS, capture=True) for one in models] if capture else eager
        made = [side().clone() for side in sides]
        usual = [int((a == Decoding(one, rows, PROMPT, STEPS)()).sum()) for a, one in zip(made, models, strict=True)]
        same = [int((a == other()).sum()) for a, other in zip(made, eager, strict=True)] if capture else usual
        agreement = f"of {rows * STEPS} tokens {usual[0]} are those of ordinary decoding (base: {usual[1]})"
        if capture:
            agreement += f", and {same[0]} those of steps without a graph (base: {same[1]})"
        return overhead(
            name,
            f"{SETTING}; {STEPS} steps after a prompt of {PROMPT} tokens",
            sides[0],
            sides[1],
            options,
            DECODING if capture else None,
            limit=counted[0] / counted[1],
            agreement=agreement,
        )


class TrainingStep:
    """One optimiser step on random rows with a learning rate of 0, so that every step is the same.

    Args:
        composed: what is trained.
        parameters: those of it that are, with gradients enabled.
    """

    def __init__(self, composed: Composed, parameters: Mapping[str, nn.Parameter]) -> None:
        self.composed = composed
        self.parameters = list(parameters.values())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=0.0, fused=True)
        self.window = [micro_batch(composed.model, TRAINED, LENGTH, TARGETS)]

    def __call__(self) -> None:
        """Leaves the gradients."""
        self.optimizer.zero_grad()
        window_backward(self.composed, self.composed.model, self.window, lambda loss: loss.backward())
        self.optimizer.step()

    def gradients(self) -> list[Tensor]:
        """Of the parameters that have one."""
        return [p.grad for p in self.parameters if p.grad is not None]


def training_step(composed: RoutedComposed, base: BaseModel, reference: list[Tensor], options: Options) -> Row:
    """A step of the routers over frozen experts, and one of a single LoRA in training, as the stages train both.

    Args:
        composed: the routed model.
        base: the model without experts; PEFT's LoRA is put in and taken out.
        reference: gradients of the routers of a loop over the experts.
        options: of the command line.
    """
    trainable(composed)
    ours = TrainingStep(composed, composed.groups()["routers"])
    targets = ("q_proj", "k_proj", "v_proj", "o_proj")
    section = ExpertsSection(names=("one",), rank=RANK, target_modules=targets, lr=5e-4)
    with trainable_lora(base, section, 0) as (single, _):
        lora = single.groups()["experts"]
        for parameter in lora.values():
            parameter.requires_grad_(True)
        theirs = TrainingStep(single, lora)
        limit = multiply_adds(ours) / multiply_adds(theirs)
        return overhead(
            STEP,
            f"{SETTING}; {TRAINED} sequences of {LENGTH} tokens, loss on {TARGETS} of each; the LoRA is PEFT's, of "
            f"rank {RANK} on the same layers",
            ours,
            theirs,
            options,
            TRAINING,
            peer="training step of one LoRA",
            limit=limit,
            agreement=f"{difference(ours.gradients(), reference)}, against a loop over the experts",
        )
