"""One optimisation of a composed model: the transformers Trainer with losses that are right under accumulation.

Every loss is a sum over the optimiser step's whole window divided by the window's own count, so the gradient does not
depend on how the window is cut into micro-batches: cross-entropy by target tokens, examples or tasks
(`harness.training.weighing`), auxiliary losses by counted tokens, data-independent terms by the number of
micro-batches.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.utils.data import Dataset, SequentialSampler
from transformers import PrinterCallback, Trainer, TrainingArguments

from harness.bases.quantised import with_adapters
from harness.checkpoints import NOTHING, Piece
from harness.training.data import Encoded, collate, laid, micro_batches, windows
from harness.training.forward import is_seq2seq, target_count, target_counts, target_cross_entropy, target_logits
from harness.training.health import Health
from harness.training.packing import packed_batches, packed_logits
from harness.training.reach import Reach
from harness.training.resuming import Keeper
from harness.training.weighing import Weigh, Weighing
from methods.routing.frozen import input_device

if TYPE_CHECKING:
    from harness.evaluation.passes import SharedPasses
    from harness.planning.sections import OptimisationSection
    from methods.base import Composed
    from methods.routing.context import CountedTokens

MAX_GRAD_NORM = 1.0

Cut = Callable[[Sequence[Encoded]], list[list[Encoded]]]
"""Rows of a window to micro-batches."""
Lay = Callable[[Sequence[Encoded]], dict[str, Tensor]]
"""Rows of a micro-batch to tensors."""


@dataclass(frozen=True)
class Recipe:
    """Optimisation settings of one phase. `lr` is by parameter group; `rates` names the configuration key of each."""

    lr: Mapping[str, float]
    epochs: int
    batch_size: int
    micro_batch_size: int
    weight_decay: float
    scheduler: str
    warmup_ratio: float
    seed: int
    max_steps: int | None = None
    weigh: Weigh = "tokens"
    rates: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, section: OptimisationSection, lr: Mapping[str, float], seed: int, **changes: Any) -> Recipe:
        """A budget's settings with learning rates by group; `changes` are fields that a phase sets itself."""
        shared = ("epochs", "batch_size", "micro_batch_size", "weight_decay", "scheduler", "warmup_ratio")
        return cls(**{**{name: getattr(section, name) for name in shared}, **changes}, lr=lr, seed=seed)


@dataclass
class TrainingLog:
    """What one phase did: per step the loss terms (raw, un-scaled), totals, and each task's share of the task loss."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    tokens: int = 0
    target_tokens: int = 0
    examples: int = 0
    shares: dict[str, float] = field(default_factory=dict)


def train(
    composed: Composed,
    rows: Sequence[Encoded],
    groups: Sequence[str],
    recipe: Recipe,
    *,
    pad_id: int,
    on_step: Callable[[int, int], None] | None = None,
    packing: SharedPasses | None = None,
    regroup: bool = False,
    reach: bool = False,
    piece: Piece = NOTHING,
) -> TrainingLog:
    """Train the named groups of a composed model on encoded rows; everything else stays frozen.

    Args:
        composed: the installed method; its `context` is driven here.
        rows: the training set.
        groups: names of `composed.groups()` that are trained.
        recipe: optimisation settings.
        pad_id: token id for padding.
        on_step: called with (steps done, steps in all) after each optimiser step.
        packing: from `harness.training.packing`, lays rows end to end; None pads them.
        regroup: whether rows that are packed may be put together otherwise than padded ones are, to micro-batches of
            equal numbers of tokens; for models without losses of a micro-batch.
        reach: whether the task loss must have a gradient at some router.
        piece: takes the state after a step now and then, and may hold one to go on from.

    Raises:
        KeyError: a group that the method does not have.
        ValueError: no rows.
        Unsupported: the task loss reaches no router.
        NotFinite: a loss, a gradient or a trained weight is not finite.
    """
    if not rows:
        raise ValueError("no training rows")
    available = composed.groups()
    chosen = {name: available[name] for name in groups}
    plan = windows(rows, recipe.batch_size, recipe.epochs, recipe.seed)[: recipe.max_steps]
    model, size = composed.model, recipe.micro_batch_size
    cut: Cut = partial(micro_batches, size=size, by_length=composed.stats_scope != "microbatch")
    if packing is not None and regroup:
        cut = partial(packed_batches, size=size)
    lay: Lay = laid if packing is not None else partial(collate, pad_id=pad_id, seq2seq=is_seq2seq(model))
    frozen = {parameter: parameter.requires_grad for parameter in model.parameters()}
    for parameter in frozen:
        parameter.requires_grad_(False)
    for group in chosen.values():
        for parameter in group.values():
            parameter.requires_grad_(True)
    weighing = Weighing.of(recipe.weigh, rows, seq2seq=is_seq2seq(model))
    log = TrainingLog(
        shares=weighing.shares(plan),
        tokens=sum(len(row) for window in plan for row in window),
        target_tokens=sum(row.n_target for window in plan for row in window),
        examples=sum(len(window) for window in plan),
    )
    rates = {recipe.rates.get(name, f"the learning rate of {name}"): recipe.lr[name] for name in groups}
    health = Health(rates, len(plan))
    keeper = Keeper(piece, composed, log.steps, health)
    device = input_device(model)
    arguments = TrainingArguments(
        # Nothing is written there, and a killed process would leave a folder of its own behind.
        output_dir=os.curdir,
        max_steps=len(plan),
        per_device_train_batch_size=1,
        lr_scheduler_type=recipe.scheduler,
        warmup_steps=round(recipe.warmup_ratio * len(plan)),
        max_grad_norm=MAX_GRAD_NORM,
        seed=recipe.seed,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=device.type == "cpu",
        remove_unused_columns=False,
        dataloader_pin_memory=device.type != "cpu",
    )
    left = plan[keeper.step :]
    with with_adapters(model):
        trainer = _Trainer(
            composed=composed,
            log=log,
            on_step=on_step,
            packing=packing,
            reach=Reach.of(available, groups) if reach else None,
            health=health,
            model=model,
            args=arguments,
            train_dataset=_Windows(left, cut, lay, weighing),
            optimizers=(_optimizer(chosen, recipe), None),
            callbacks=[keeper],
            keeper=keeper,
        )
    trainer.pop_callback(PrinterCallback)
    try:
        if keeper.step < len(plan):
            trainer.train()
        else:
            keeper.before_step()
        health.parameters(parameter for group in chosen.values() for parameter in group.values())
    finally:
        composed.context.training = False
        model.eval()
        for parameter, flag in frozen.items():
            parameter.requires_grad_(flag)
            parameter.grad = None
        for group in chosen.values():
            for parameter in group.values():
                parameter.grad = None
    return log


def _optimizer(groups: Mapping[str, Mapping[str, nn.Parameter]], recipe: Recipe) -> torch.optim.AdamW:
    optimizer = torch.optim.AdamW(
        [{"params": list(group.values()), "lr": recipe.lr[name]} for name, group in groups.items()],
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    optimizer.register_step_post_hook(_changed)
    return optimizer


def _changed(optimizer: torch.optim.Optimizer, _args: object, _kwargs: object) -> None:
    """A fused step leaves the parameters' versions as they were, and what methods keep of them between passes without
    gradients is told apart by these."""
    increment_version([parameter for group in optimizer.param_groups for parameter in group["params"]])


class _Windows(Dataset[dict[str, Any]]):
    """One item is one optimiser step: its rows, cut into micro-batches and laid into tensors."""

    def __init__(self, plan: Sequence[Sequence[Encoded]], cut: Cut, lay: Lay, weighing: Weighing) -> None:
        self.plan = plan
        self.cut = cut
        self.lay = lay
        self.weighing = weighing

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, index: int) -> dict[str, Any]:
        parts = self.cut(self.plan[index])
        return {
            "micro_batches": [self.lay(part) for part in parts],
            "weights": None if self.weighing.by == "tokens" else self.weighing.window(parts),
        }


class _Trainer(Trainer):
    """The Trainer with the window as its batch and our loss; schedule, clipping and optimiser steps are its own."""

    def __init__(
        self,
        *,
        composed: Composed,
        log: TrainingLog,
        on_step: Callable[[int, int], None] | None,
        packing: SharedPasses | None,
        reach: Reach | None,
        health: Health,
        keeper: Keeper,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_collator=_only, **kwargs)
        self.composed = composed
        self.log_ = log
        self.on_step = on_step
        self.packing = packing
        self.reach = reach
        self.health = health
        self.keeper = keeper
        self.loss_is_scaled_for_ga = True

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        # The windows are already in their seeded order.
        windows: Any = train_dataset if train_dataset is not None else self.train_dataset
        return SequentialSampler(windows)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        if not model.training:  # walking over all modules takes a while
            model.train()
        self.keeper.before_step()
        # The Trainer clears the model's own gradients only, and a loss may have parameters outside it.
        if self.optimizer is not None:
            self.optimizer.zero_grad()
        step, steps = self.state.global_step, self.state.max_steps
        self.composed.context.progress = step / steps
        terms = window_backward(
            self.composed,
            model,
            [self._prepare_inputs(part) for part in inputs["micro_batches"]],
            self.accelerator.backward,
            weights=inputs["weights"],
            watch=None if self.reach is None else self.reach.watch(step),
            packing=self.packing,
        )
        if self.reach is not None:
            self.reach.require(step)
        self.health.loss(step + 1, terms)
        self.composed.on_window_end()
        rates = [group["lr"] for group in self.optimizer.param_groups] if self.optimizer else []
        self.log_.steps.append({"step": step, "lr": rates, **terms})
        if self.on_step is not None:
            self.on_step(step + 1, steps)
        return torch.tensor(terms["loss"], device=self.args.device)

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)
        self.health.gradient(self.state.global_step + 1, float(norm))
        return norm


def _only(items: list[dict[str, Any]]) -> dict[str, Any]:
    (window,) = items
    return window


def window_backward(
    composed: Composed,
    model: nn.Module,
    window: Sequence[Mapping[str, Tensor]],
    backward: Callable[[Tensor], None],
    *,
    weights: Sequence[Sequence[float]] | None = None,
    watch: Callable[[Tensor], None] | None = None,
    packing: SharedPasses | None = None,
) -> dict[str, float]:
    """Accumulate the gradient of one optimiser step over its micro-batches.

    Args:
        composed: supplies the auxiliary losses of each forward pass.
        model: the module whose forward is called (the composed model, possibly wrapped for several devices).
        window: collated micro-batches; laid ones where they are packed.
        backward: called with each micro-batch's share of the loss.
        weights: of each row's summed cross-entropy, by micro-batch (`Weighing.window`); None for a mean over tokens.
        watch: called with each micro-batch's share of the task loss alone, before its backward pass.
        packing: passes over packed micro-batches, in place of the model's own forward.

    Returns:
        The window's cross-entropy as it is weighed (`task`), each auxiliary loss un-scaled, and their sum (`loss`).
    """
    targets = sum(target_count(composed.model, part) for part in window)
    terms: dict[str, float] = {"task": 0.0, "loss": 0.0}
    context, seq2seq = composed.context, is_seq2seq(composed.model)
    count = partial(_count, seq2seq=seq2seq)
    run = partial(target_logits, model, composed.model) if packing is None else partial(packed_logits, packing)
    if seq2seq:
        context.window = sum(int(part["attention_mask"].sum()) for part in window), targets
    if composed.stats_scope == "accum":
        _statistics_pass(composed, run, window)
    for index, part in enumerate(window):
        context.training, context.domain, context.label_mask = True, part["domain"], part["labels"] != -100
        logits, wanted = run(part)
        if weights is None:
            task_loss = target_cross_entropy(logits, wanted) / targets
        else:
            precision = torch.float64 if logits.dtype == torch.float64 else torch.float32
            by_row = torch.tensor(weights[index], dtype=precision, device=logits.device)
            by_token = by_row.repeat_interleave(target_counts(composed.model, part))
            task_loss = target_cross_entropy(logits, wanted, by_token)
        if watch is not None:
            watch(task_loss)
        loss = task_loss
        terms["task"] += task_loss.item()
        for name, term in composed.losses().items():
            weight = count(part, term.counted) / sum(count(other, term.counted) for other in window)
            weight = weight if term.per_token else 1 / len(window)
            loss = loss + term.coefficient * weight * term.value
            terms[name] = terms.get(name, 0.0) + weight * term.value.item()
        terms["loss"] += loss.item()
        backward(loss)
    context.training, context.domain, context.label_mask, context.window = False, None, None, None
    return terms


def _count(part: Mapping[str, Tensor], counted: CountedTokens, seq2seq: bool) -> int:
    """Tokens of a micro-batch that an auxiliary loss is a mean over."""
    answers = part["labels"] != -100
    if counted == "all_nonpad":
        return int(part["attention_mask"].sum() + (answers.sum() if seq2seq else 0))
    if seq2seq:
        return int(answers.sum() if counted == "answer_only" else part["attention_mask"].sum())
    return int(answers.sum() if counted == "answer_only" else (part["attention_mask"].bool() & ~answers).sum())


def _statistics_pass(
    composed: Composed, run: Callable[[Mapping[str, Tensor]], object], window: Sequence[Mapping[str, Tensor]]
) -> None:
    """First of the two passes of `stats_scope=accum`: exact window statistics, without gradients."""
    context = composed.context
    with torch.no_grad():
        for part in window:
            context.training, context.domain, context.label_mask = (
                True,
                part["domain"],
                part["labels"] != -100,
            )
            run(part)
            composed.losses()
    composed.on_statistics_end()
