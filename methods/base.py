"""The contract between a method and the engine.

A method turns a base model and a pool of experts into a composed model. The engine owns data, optimisation and
evaluation; the method owns what is injected, what is trained, and the auxiliary losses. `methods` never imports
`harness`: the engine hands a `Session` to `Method.fit`.

Life of a composed model::

    method = registry.create("mixer", {"loss": {"entropy": {"sign": -1}}})
    composed = method.install(model, experts, seed=0)     # injects; the base's forward is now routed
    method.fit(composed, session)                         # trains routers, searches weights, or nothing
    with composed.task("sst2", own="sst2"): ...           # evaluation of one task
    composed.save(folder); composed.load(folder)
    composed.uninstall()                                  # logits equal a clean base's to the bit
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from methods.pool import PoolExpert, has_no_rows
from methods.routing.context import CountedTokens, RoutingContext
from methods.settings import MethodConfig as MethodConfig
from results.ground.errors import HarnessError

Track = Literal["compose", "joint", "reference"]
Budget = Literal["router", "expert"]
Level = Literal["token", "example"]
"""What weights over experts differ between: the tokens of a text, or whole prompts."""


class Unsupported(HarnessError, ValueError):
    """A method cannot be used here (architecture, pool size, setting). The message is one sentence for the user."""


@dataclass(frozen=True)
class SiteFactors:
    """One expert's LoRA at one site. `A` is `[r, d_in]`, `B` is `[d_out, r]`, `scale` is a/r (rsLoRA: a/sqrt(r)).

    The update is `scale * B @ A` (Hu et al. naming; the LoRA-Mixer paper swaps A and B).
    """

    A: Tensor
    B: Tensor
    scale: float


@dataclass(frozen=True)
class Expert:
    """One LoRA of the pool: factors by site path (relative to the base model, e.g. `model.layers.0.self_attn.q_proj`).

    Sites that an expert lacks are zero experts there. `digest` is the content hash of its adapter directory. `copies`
    are parameters of the base model, by name, that its file repeats; they must equal the model's.
    """

    name: str
    sites: Mapping[str, SiteFactors]
    digest: str = ""
    copies: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """What the methods of one comparison share beyond the pool's weights, for those that make experts of their own.

    Attributes:
        experts: names of the pool, in order.
        rank: LoRA rank of one expert of the pool.
        alpha: its LoRA alpha; the scale is `alpha / rank`.
        dropout: dropout on the input of A while it is trained.
        targets: last parts of the module paths that it is injected at.
        lr: learning rate that it is trained with.
    """

    experts: tuple[str, ...]
    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]
    lr: float


@dataclass(frozen=True)
class TrainingPhase:
    """One optimisation that the engine runs for a method.

    Attributes:
        name: names the phase in logs and seeds.
        data: `routing` (mixed router-train examples of all pool tasks), `expert:NAME` (that expert's own router-train
            examples), `dev` (mixed development examples of all pool tasks, for a handful of weights alone), `stage1`
            (mixed expert-train examples of all pool tasks), or `stage1+routing` (both).
        groups: parameter groups (of `Composed.groups`) that are trained; everything else stays frozen.
        lr: learning rate by group; a missing group takes the budget's rate for its kind.
        budget: which section of the comparison's settings (rate, batch, schedule) holds. `routing`, `dev` and
            `expert:NAME` have the tokens of `router`, `stage1` those of `expert` times the number of experts.
        weight_decay: for all groups of the phase.
        max_steps: a method's own limit on optimiser steps (PHATGOOSE: 100); the budget still holds.
        reach: whether a fit whose task loss reaches none of its `routers` is refused; False where the method says
            itself which of them it does not reach.
    """

    name: str
    data: str
    groups: tuple[str, ...]
    lr: Mapping[str, float] = field(default_factory=dict)
    budget: Budget = "router"
    weight_decay: float = 0.0
    max_steps: int | None = None
    reach: bool = True


@dataclass
class LossTerm:
    """One auxiliary loss of a forward pass.

    Attributes:
        value: scalar tensor with graph, un-scaled (the raw value that is logged).
        coefficient: multiplies it; the warm-up ramp is already in.
        per_token: True when `value` is a mean over the counted tokens of the micro-batch, so that an accumulation
            window weights it by token counts; False for data-independent terms (preserve).
        counted: which tokens the mean is over, hence which counts weight micro-batches.
    """

    value: Tensor
    coefficient: float
    per_token: bool = True
    counted: CountedTokens = "all_nonpad"


class Survey(Protocol):
    """What must have seen every prompt of a task before the task is evaluated; see `Composed.survey`."""

    def looking(self) -> AbstractContextManager[None]:
        """Inside the block passes of prompts are looked at; it begins anew."""


class Session(Protocol):
    """What the engine offers to a method that is being fitted.

    Attributes:
        sequences: sequences in a full micro-batch (statistics taken inside one micro-batch need at least 8).
        task: the task that is fitted for, for methods with `per_task`; else None.
    """

    @property
    def sequences(self) -> int: ...

    @property
    def task(self) -> str | None: ...

    def train(self, composed: Composed, phase: TrainingPhase) -> None:
        """Run one phase with the comparison's budget; the log goes into the record."""

    def loss(self, composed: Composed, data: str, n: int) -> float:
        """Mean answer-token cross-entropy in nats over the first `n` examples of `data`, without gradients.

        A fit that was cut off is told what it was told before, and nothing is computed again: only the number counts.
        `context.prompt_mask` marks the prompts meanwhile, as in evaluation.

        `data` is `routing`, `expert:NAME` (as in phases), `task:NAME` for the router-train examples of one task (of its
        expert's tasks, where it has none itself), or `dev:NAME` for its development examples, on which nothing is
        trained.
        """

    def read(self, composed: Composed, data: str, n: int) -> None:
        """Pass the same examples through the model, for what its layers note of them meanwhile."""

    def dev_tasks(self) -> tuple[str, ...]:
        """Names of the pool's tasks that have development examples; at least one."""

    def progress(self, done: int, of: int) -> None:
        """Tell whoever watches how far a search or a pass over rows is; phases tell it themselves."""

    def note(self, entry: Mapping[str, Any]) -> None:
        """Add JSON data to the log of the fit, for methods that do not learn by optimiser steps."""


class Composed:
    """A base model with a method installed.

    Subclasses usually need nothing more than `sites`. `context` carries the token mask, the task and the training
    progress of the current forward pass to every routed layer.
    """

    kv_cache: bool = True
    """Whether weights at token t depend on tokens up to t only and are not revised later. Where False, a sequence is
    passed whole and uncut, its prompt marked in `context.prompt_mask`; no prefix may be shared between items."""

    whole_prompts: bool = False
    """Whether weights are fixed on a prompt and kept for what follows. Where True, a prompt is passed whole and marked
    in `context.prompt_mask`, and no prefix may be shared between items; a cache that it filled may be continued."""

    packs: bool = False
    """Whether rows laid end to end have a padded batch's weights, losses and gradients; see `RoutedComposed`."""

    passes: int = 1
    """Passes of the base model behind every pass of this one (`Method.passes`): what a token costs."""

    survey: Survey | None = None
    """Where it is set, every prompt of a task is passed once inside `survey.looking()` before the task is evaluated."""

    stats_scope: str | None = None
    """Where balance statistics come from (`microbatch`, `ema`, `accum`); None without such losses. Under `accum` the
    engine first runs every micro-batch of a window without gradients, calling `losses` after each and
    `on_statistics_end` after the last, and then trains on them as usual."""

    def __init__(self, model: nn.Module, context: RoutingContext, experts: Sequence[str]) -> None:
        self.model = model
        self.context = context
        self.experts = tuple(experts)
        self.sites: dict[str, nn.Module] = {}

    def groups(self) -> dict[str, dict[str, nn.Parameter]]:
        """Trainable parameters by group name (`routers`, `experts`, `loss`, ...), then by state name."""
        return {}

    def stored(self) -> dict[str, int]:
        """Counts of stored but frozen parameters by group (e.g. the pool's experts)."""
        return {}

    def losses(self) -> dict[str, LossTerm]:
        """Auxiliary losses of the latest forward pass by name; empty without any. Called once per micro-batch."""
        return {}

    def on_window_end(self) -> None:
        """Called after each optimiser step; running statistics are updated here, never inside a window."""

    def on_statistics_end(self) -> None:
        """Called between the two passes over a window under `stats_scope` `accum`."""

    def state(self) -> dict[str, Tensor]:
        """Everything that fitting decided: trained parameters, buffers and running statistics."""
        return {name: p.detach().clone() for group in self.groups().values() for name, p in group.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`; refuses missing or unexpected names with KeyError."""
        own = {name: p for group in self.groups().values() for name, p in group.items()}
        if own.keys() != state.keys():
            raise KeyError(f"state names differ: {sorted(own.keys() ^ state.keys())}")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(state[name])

    def save(self, folder: Path) -> None:
        """Write `state()` as `composed.safetensors` into an existing folder."""
        from safetensors.torch import save_file

        save_file({k: v.contiguous() for k, v in self.state().items()}, str(folder / "composed.safetensors"))

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        from safetensors.torch import load_file

        self.load_state(load_file(str(folder / "composed.safetensors")))

    @contextmanager
    def task(self, name: str, own: str | None) -> Iterator[None]:
        """Evaluate one task: `own` is the pool's expert for it, or None. Routing statistics restart here."""
        self.context.begin_task(name, self.experts.index(own) if own in self.experts else None)
        try:
            yield
        finally:
            self.context.end_task()

    def diagnostics(self) -> dict[str, Any] | None:
        """Routing diagnostics of the tokens since `task` was entered, with the fields of a record; None if static."""
        return None

    def tally(self) -> dict[str, Tensor]:
        """Running sums behind `diagnostics`. Evaluations of a class that has the one and not the other start anew."""
        return {}

    def load_tally(self, tally: Mapping[str, Tensor]) -> None:
        """Inverse of `tally`; what was counted since is forgotten."""

    def merged(self, name: str) -> Expert:
        """The whole composition as one ordinary LoRA of that name, where its update is the same for every token.

        Raises:
            Unsupported: it depends on the input, or there is none.
        """
        raise Unsupported("its update depends on the input, or there is none, so that no single LoRA equals it")

    def uninstall(self) -> None:
        """Put every replaced module back and drop hooks."""
        raise NotImplementedError


class Method(ABC):
    """One way of composing experts. Stateless: everything that varies is in `config`."""

    Config: ClassVar[type[MethodConfig]] = MethodConfig
    version: ClassVar[int] = 1
    """Raised when a change of the code changes results; part of every hash."""
    track: ClassVar[Track] = "compose"
    source_rates: ClassVar[Mapping[str, float]] = {}
    """Learning rates that the method was published with, by key of its configuration; empty where none is given."""

    def __init__(self, config: MethodConfig | None = None, *, name: str | None = None) -> None:
        self.config = config if config is not None else self.Config()
        self.name = name or type(self).__name__.lower()

    def within(self, comparison: Comparison) -> Method:
        """This method as a comparison runs it: settings that default to the comparison's are filled in, so that they
        are part of every hash and stand in every record. Doing so twice changes nothing. Default: itself."""
        return self

    @property
    def uses_task_identity(self) -> bool:
        """Whether the method is told the task at test time (dagger in tables)."""
        return False

    def serves(self, pool: Sequence[str], own: str | None) -> bool:
        """Whether there is a cell for a task with own expert `own`; without one, tables show a dash."""
        return True

    def depends_on(self, pool: Sequence[str], own: str | None) -> tuple[str, ...]:
        """Experts that the cell of a task with own expert `own` depends on; default: the whole pool."""
        return tuple(pool)

    def per_task(self) -> bool:
        """Whether a separate composed model is fitted for each task (`lora`, LoRAHub per_task)."""
        return False

    def trains(self) -> bool:
        """Whether `fit` learns from training data (then the cell depends on the data of the pool's tasks)."""
        return False

    def seeded(self) -> bool:
        """Whether the seed changes what it does with the same experts. Where it does not, seeds share one computation,
        and over experts that were brought one seed is all there is to decide by."""
        return True

    def has_learning_rate(self) -> bool:
        """Whether `fit` takes optimiser steps, so that tuning has rates to try; without, it is fitted once."""
        return self.trains()

    def routes(self) -> Level | None:
        """What the weights over experts differ between; None where they are the same for every input, or no router
        chooses them."""
        return None

    def passes(self, n_experts: int) -> int:
        """Passes of the base model behind every pass of the composed one, from a pool of that size."""
        return 1

    def pads(self) -> bool:
        """Whether its training takes padded rows on processors too, which needs more memory: what its composed models
        do not `packs`. Default: where weights are an example's, and where noise is drawn (`route.jitter`)."""
        return self.routes() == "example" or bool(getattr(getattr(self.config, "route", None), "jitter", 0.0))

    def budgets(self) -> tuple[Budget, ...]:
        """Which of the comparison's budgets `fit` spends; the cell depends on their settings."""
        return ("router",) if self.trains() else ()

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """Raise `Unsupported` when this cannot run; called before anything is loaded.

        Args:
            model_config: the base's `transformers` configuration.
            pool: names of the experts.
        """

    def takes(self, pool: Sequence[PoolExpert]) -> str | None:
        """Why this cannot work with such a pool, without a full stop, or None where it can.

        Planning asks once per method, `--plan` included, and the cells of a method that refuses are recorded with the
        reason while the others are computed. What `install` or `fit` would find out too late is said here.

        Args:
            pool: all experts of the run, in order; shapes come from headers, nothing is loaded.
        """
        return has_no_rows(pool, "router-train", "training data") if self.trains() else None

    @abstractmethod
    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> Composed:
        """Inject into `model` (in place) and return the handle. Initial values follow from `seed` and site names."""

    def fit(self, composed: Composed, session: Session) -> None:
        """Learn what is learned; default: nothing."""

    def notes(self, composed: Composed) -> list[str]:
        """What a reader of the record must know about a fitted model, each a sentence or two; default: nothing."""
        return []
