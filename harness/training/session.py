"""What the engine offers a method while it is fitted: data, optimisation and a loss, under the comparison's budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import mean
from typing import TYPE_CHECKING, Any

import torch

from harness.checkpoints import Checkpoint
from harness.planning.sections import OptimisationSection
from harness.training.data import Encoded, Pending, collate, draw, encode
from harness.training.experts import pad_token
from harness.training.forward import is_seq2seq, target_counts, target_cross_entropy, target_logits
from harness.training.loop import Recipe, train
from harness.training.packing import routed_passes
from harness.training.phases import phase as kept_phase
from methods.routing.frozen import input_device
from results.ground.digest import seed_from
from results.ground.errors import HarnessError
from tasks.base import Part

if TYPE_CHECKING:
    from harness.models import BaseModel
    from harness.planning.plan import Plan
    from methods.base import Composed, TrainingPhase


class TrainingData:
    """Encoded rows of the plan's tasks, by the names that phases use. Each part is encoded once."""

    def __init__(self, plan: Plan, base: BaseModel) -> None:
        self.plan = plan
        # Not the model: another one may take its place in memory.
        self._tokenizer = base.tokenizer
        self._seq2seq = is_seq2seq(base.model)
        self._encoded: dict[tuple[str, Part, int], list[Pending]] = {}

    def pools(self, data: str, max_length: int) -> dict[str, list[Pending]]:
        """Rows by task for `routing`, `dev`, `dev:NAME`, `expert:NAME`, `own:NAME` or `task:NAME`.

        `expert:NAME` and `task:NAME` are router-train rows; `own:NAME` are expert-train rows; `dev`, of all tasks or of
        one, is for choices alone.

        Raises:
            KeyError: a name that is none of these.
        """
        kind, _, name = data.partition(":")
        part: Part = "dev" if kind == "dev" else "expert-train" if kind == "own" else "router-train"
        if kind == "dev" and name:
            tasks = [task for task in self.plan.routing_tasks() if task.name == name] or self.plan.target_tasks(name)
        elif kind in ("routing", "dev"):
            tasks = self.plan.routing_tasks()
        elif kind in ("expert", "own"):
            tasks = self.plan.expert_tasks(name)
        elif kind == "task":
            tasks = self.plan.target_tasks(name)
        else:
            raise KeyError(data)
        return {task.name: self._rows(task, part, max_length) for task in tasks}

    def expert_rows(self, name: str, seed: int) -> list[Encoded]:
        """The rows that one expert of the pool is trained on; together they are `stage1` of methods that train all."""
        section = self.plan.config.experts
        return draw(
            self.pools(f"own:{name}", section.max_length),
            tokens=None if section.tokens is None else max(1, section.tokens // section.epochs),
            examples=None,
            mixture="proportional",
            seed=seed,
        )

    def _rows(self, task: Any, part: Part, max_length: int) -> list[Pending]:
        from tasks import registry

        key = (task.name, part, max_length)
        if key not in self._encoded:
            names = self.plan.config.experts.names
            expert = registry.card(task.name).expert
            domain = names.index(expert) if expert in names else -1
            self._encoded[key] = encode(self._tokenizer, task, part, domain, max_length, seq2seq=self._seq2seq)
        return self._encoded[key]


class EngineSession:
    """Implements `methods.base.Session` for one composed model."""

    def __init__(
        self,
        plan: Plan,
        data: TrainingData,
        base: BaseModel,
        *,
        seed: int,
        on_step: Callable[[int, int], None] | None = None,
        lr_scale: float = 1.0,
        task: str | None = None,
        most: int | None = None,
        kept: Checkpoint | None = None,
        packs: bool = False,
    ) -> None:
        """Args:
        plan: names the budgets and the tasks.
        data: the plan's rows.
        base: the model they are encoded for.
        seed: of the run.
        on_step: called with (steps done, steps in all).
        lr_scale: factor on every learning rate.
        task: that the fit is for, where a method is fitted for each.
        most: sequences in a micro-batch, where memory is short.
        kept: of the fit, to go on from.
        packs: whether the base is one that rows may be packed for (`packable`).
        """
        self.plan = plan
        self.data = data
        self.base = base
        self.seed = seed
        self.on_step = on_step
        self.lr_scale = lr_scale
        self.task = task
        self.most = most
        self.kept = kept or Checkpoint()
        self.packs = packs
        self.log: list[dict[str, Any]] = []
        self.tokens = 0
        self.phases: list[dict[str, Any]] = []

    @property
    def sequences(self) -> int:
        """Sequences in a full micro-batch of router training."""
        return self._sequences(self.plan.config.routers)

    def _sequences(self, section: OptimisationSection) -> int:
        return min(section.micro_batch_size, self.most or section.micro_batch_size)

    def train(self, composed: Composed, phase: TrainingPhase) -> None:
        """Run one phase; rows, order and number of steps depend on the phase's data and the budget alone."""
        section = self._section(phase.budget)
        rows = self.rows(phase.data, phase.budget)
        routers = self.plan.config.routers
        rates, named = {}, {}
        for group in phase.groups:
            with_routers = group == "experts" and phase.budget == "router"
            default = routers.lr_experts if with_routers else section.lr
            rates[group] = self.lr_scale * phase.lr.get(group, default)
            if group not in phase.lr:
                key = "lr_experts" if with_routers else "lr"
                named[group] = f"{'experts' if phase.budget == 'expert' else 'routers'}.{key}"
        seed = seed_from("order", phase.data, self.seed)
        recipe = Recipe.of(
            section,
            rates,
            seed,
            micro_batch_size=self._sequences(section),
            weight_decay=phase.weight_decay,
            max_steps=phase.max_steps,
            weigh=routers.weigh,
            rates=named,
        )
        pad = pad_token(self.base.tokenizer)
        packing = routed_passes(composed, rows) if self.packs else None
        given: dict[str, Any] = {"pad_id": pad, "on_step": self.on_step, "reach": phase.reach, "packing": packing}
        log = kept_phase(
            self.kept,
            phase.name,
            composed,
            lambda piece: train(composed, rows, phase.groups, recipe, **given, piece=piece),
        )
        self.log += [{"phase": phase.name, **step} for step in log.steps]
        self.tokens += log.tokens
        self.phases.append(
            {
                "phase": phase.name,
                "steps": len(log.steps),
                "examples": log.examples,
                "tokens": log.tokens,
                "lr": rates,
                "weigh": recipe.weigh,
                "shares": log.shares,
            }
        )

    def rows(self, data: str, budget: str) -> list[Encoded]:
        """The training set of one phase: drawn by seed within the budget, the same for every method.

        `stage1` is what the pool's experts are trained on, each within its own budget. Several kinds of data joined by
        `+` are each drawn within their own.
        """
        if "+" in data:
            parts = data.split("+")
            return [row for part in parts for row in self.rows(part, "expert" if part == "stage1" else "router")]
        if data == "stage1":
            names = self.plan.pool_tasks()
            return [row for name in names for row in self.data.expert_rows(name, self.plan.expert_seed(self.seed))]
        section = self._section(budget)
        pools = self.data.pools(data, section.max_length)
        routers = self.plan.config.routers
        tokens = section.tokens
        if tokens is not None and data.startswith("expert:"):
            # Decentralised phases share the routing budget: each expert gets its part of it.
            tokens = max(1, tokens // len(self.plan.config.experts.names))
        return draw(
            pools,
            tokens=None if tokens is None else max(1, tokens // section.epochs),
            examples=routers.examples if budget == "router" else None,
            mixture=routers.mixture,
            seed=self.seed,
        )

    def progress(self, done: int, of: int) -> None:
        """See `methods.base.Session`."""
        if self.on_step is not None:
            self.on_step(done, of)

    def note(self, entry: Mapping[str, Any]) -> None:
        """Add an entry to the record's training log."""
        self.log.append(dict(entry))

    def dev_tasks(self) -> tuple[str, ...]:
        """Tasks of the pool that have development rows.

        Raises:
            HarnessError: none has any.
        """
        found = tuple(task.name for task in self.plan.routing_tasks() if task.parts["dev"])
        if not found:
            raise HarnessError("No task of the pool has development rows in this source: choose another --data.")
        return found

    @torch.no_grad()
    def loss(self, composed: Composed, data: str, n: int) -> float:
        """Mean answer-token cross-entropy in nats over the first `n` drawn rows of `data`; see `methods.base.Session`.

        Raises:
            HarnessError: there are none.
        """
        rows = self._looked_at(data, n)
        return self.kept.run(f"loss on {data}", lambda _: self._mean_loss(composed, rows))

    @torch.no_grad()
    def read(self, composed: Composed, data: str, n: int) -> None:
        """Pass the same rows through the model, in every process.

        Raises:
            HarnessError: there are none.
        """
        self._mean_loss(composed, self._looked_at(data, n))

    def _mean_loss(self, composed: Composed, rows: Sequence[Encoded]) -> float:
        losses = self._row_losses(composed, rows)
        return sum(total for _, total, _ in losses) / sum(count for *_, count in losses)

    def _looked_at(self, data: str, n: int) -> list[Encoded]:
        """The first `n` drawn rows of `data`; that a search without optimiser steps has looked at them is noted."""
        rows = self.rows(data, "router")[:n]
        if not rows:
            raise HarnessError(f"There are no rows of {data} in this source: choose another --data.")
        name = f"search on {data}"
        if not self.phases or self.phases[-1]["phase"] != name:
            size = {"examples": len(rows), "tokens": sum(map(len, rows))}
            self.phases.append({"phase": name, "steps": 0, "evaluations": 0, **size, "lr": {}})
        self.phases[-1]["evaluations"] += 1
        return rows

    @torch.no_grad()
    def dev_loss(self, composed: Composed, n: int) -> float:
        """What tuning chooses by, over the first `n` dev rows: cross-entropy in nats per answer token, a mean over each
        example's tokens, then over a task's examples, then over tasks."""
        by_task: dict[str, list[float]] = {}
        for task, total, count in self._row_losses(composed, self.rows("dev", "router")[:n]):
            if count:
                by_task.setdefault(task, []).append(total / count)
        return mean(mean(losses) for losses in by_task.values())

    def _row_losses(self, composed: Composed, rows: Sequence[Encoded]) -> list[tuple[str, float, int]]:
        """Task, summed cross-entropy and number of scored tokens of each row."""
        found = []
        device = input_device(composed.model)
        size = self.sequences
        for start in range(0, len(rows), size):
            chunk = rows[start : start + size]
            part = {key: value.to(device) for key, value in self._collate(chunk).items()}
            with self._prompts_marked(composed, part):
                logits, targets = target_logits(composed.model, composed.model, part)
            counts = target_counts(composed.model, part).tolist()
            pieces = zip(chunk, logits.split(counts), targets.split(counts), counts, strict=True)
            found += [(row.task, target_cross_entropy(own, wanted).item(), n) for row, own, wanted, n in pieces]
        return found

    @contextmanager
    def _prompts_marked(self, composed: Composed, part: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """Say which tokens of a micro-batch are prompt, as evaluation does: an answer must fix no weights."""
        if not is_seq2seq(composed.model):
            composed.context.prompt_mask = part["attention_mask"].bool() & (part["labels"] == -100)
        try:
            yield
        finally:
            composed.context.prompt_mask = None

    def _collate(self, rows: Sequence[Encoded]) -> dict[str, torch.Tensor]:
        return collate(rows, pad_token(self.base.tokenizer), seq2seq=is_seq2seq(self.base.model))

    def _section(self, budget: str) -> OptimisationSection:
        return self.plan.config.experts if budget == "expert" else self.plan.config.routers
