"""LoRAHub (arXiv 2307.13269): one weight per expert, found without gradients on a handful of examples."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from methods.experts import pool_sites
from methods.merging.composed import Merged
from methods.merging.method import MergeConfig
from methods.merging.updates import balanced
from methods.pool import PoolExpert
from methods.routing import (
    Composed,
    Expert,
    Method,
    MethodConfig,
    Session,
    SiteFactors,
    Unsupported,
    check_architecture,
    seed_from,
    weight_like,
)

if TYPE_CHECKING:
    import numpy as np

DIVERGED = 1e4
"""What the search is told of weights under which the loss is not finite."""


class LorahubConfig(MergeConfig):
    """Configuration of `lorahub`."""

    mode: Literal["per_task", "pooled"] = Field(
        default="per_task", description="Weights for each task, or one set for all from the mixed routing data."
    )
    budget: PositiveInt = Field(default=40, description="Evaluations of the objective.")
    examples: PositiveInt = Field(default=5, description="Examples of a task (pooled: as many for each expert).")
    bound: float = Field(default=1.5, gt=0, description="Weights are searched in [-bound, bound].")
    l1: float = Field(default=0.05, ge=0, description="Coefficient of the mean magnitude of the weights.")
    loss_div: Literal["mean", "examples"] = Field(
        default="mean", description="Mean cross-entropy, or that divided by the number of examples once more."
    )
    optimizer: str = Field(default="NGOpt", description="Name in nevergrad's registry.")


class Hub(Merged):
    """Merged factors `A = sum_n w_n A_n`, `B = sum_n w_n B_n`, with weights that can be set; they start at zero."""

    def __init__(self, model: nn.Module, experts: Sequence[Expert], *, fold: bool, seed: int) -> None:
        sites = pool_sites(experts, model)
        ranks = {expert.name: {site: f.A.shape[0] for site, f in expert.sites.items()} for expert in experts}
        if unequal := _unequal(ranks):
            raise Unsupported(f"{unequal}.")
        self.seed = seed
        self.weights = torch.zeros(len(experts), dtype=torch.float64)
        self._factors: dict[str, tuple[Tensor, Tensor]] = {}
        for site in sites:
            like = weight_like(model.get_submodule(site))
            parts = [balanced(expert.sites[site], like) for expert in experts]
            self._factors[site] = torch.stack([A for A, _ in parts]), torch.stack([B for _, B in parts])
        super().__init__(model, [expert.name for expert in experts], sites, self._combine, fold=fold)

    def _combine(self, site: str, like: Tensor) -> SiteFactors:
        A, B = self._factors[site]
        w = self.weights.to(A.device, A.dtype)
        return SiteFactors(torch.einsum("n,nri->ri", w, A), torch.einsum("n,nor->or", w, B), 1.0)

    def set_weights(self, weights: Tensor) -> None:
        """Merge with other weights `[N]`."""
        self.weights = weights.to(torch.float64).cpu().clone()
        self.refresh()

    def stored(self) -> dict[str, int]:
        """The merged LoRA and the searched weights."""
        return super().stored() | {"searched": len(self.weights)}

    def state(self) -> dict[str, Tensor]:
        """The weights."""
        return {"weights": self.weights.clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`; refuses missing or unexpected names with KeyError."""
        if state.keys() != {"weights"}:
            raise KeyError(f"state names differ: {sorted(state.keys() ^ {'weights'})}")
        self.set_weights(state["weights"])


class Lorahub(Method):
    """`Delta W = s (sum_n w_n B_n)(sum_n w_n A_n)`: one weight per expert for all sites, cross terms included."""

    Config: ClassVar[type[MethodConfig]] = LorahubConfig
    config: LorahubConfig

    @property
    def uses_task_identity(self) -> bool:
        """Each task has its own weights, unless they are pooled."""
        return self.per_task()

    def per_task(self) -> bool:
        """See `Method.per_task`."""
        return self.config.mode == "per_task"

    def trains(self) -> bool:
        """See `Method.trains`."""
        return True

    def has_learning_rate(self) -> bool:
        """See `Method.has_learning_rate`; the search has a budget of evaluations instead."""
        return False

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        check_architecture(model_config)
        if self.config.optimizer != LorahubConfig().optimizer:
            import nevergrad

            if self.config.optimizer not in nevergrad.optimizers.registry:
                raise Unsupported(f"nevergrad has no optimizer '{self.config.optimizer}': the default is NGOpt.")

    def takes(self, pool: Sequence[PoolExpert]) -> str | None:
        """See `Method.takes`."""
        ranks = {expert.name: {site: shape.rank for site, shape in expert.sites.items()} for expert in pool}
        return super().takes(pool) or _unequal(ranks)

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> Hub:
        """See `Method.install`.

        Raises:
            AdapterError: an expert does not fit the model.
            Unsupported: experts of unequal ranks or sites, whose factors cannot be added.
        """
        return Hub(model, experts, fold=self.config.fold, seed=seed)

    def fit(self, composed: Composed, session: Session) -> None:
        """Search the weights, in eval mode and without gradients, and write the search into the log."""
        assert isinstance(composed, Hub)
        config = self.config
        if self.per_task() and session.task is None:
            raise RuntimeError("lorahub in mode per_task is fitted for one task, and the session names none.")
        data = f"task:{session.task}" if self.per_task() else "routing"
        n = config.examples * (1 if self.per_task() else len(composed.experts))
        evaluations = 0

        def objective(w: np.ndarray) -> float:
            nonlocal evaluations
            evaluations += 1
            composed.set_weights(torch.from_numpy(w))
            loss = session.loss(composed, data, n)
            value = loss / (n if config.loss_div == "examples" else 1) + config.l1 * float(abs(w).mean())
            session.note({"phase": "search", "step": evaluations, "task": loss, "weights": w.tolist()})
            session.progress(evaluations, config.budget)
            return value if math.isfinite(value) else DIVERGED

        training = composed.model.training
        composed.model.eval()
        try:
            best, facts = search(objective, len(composed.experts), config, composed.seed)
        finally:
            composed.model.train(training)
        composed.set_weights(torch.from_numpy(best))
        session.note({"phase": "found", **facts, "weights": best.tolist()})


def search(
    objective: Callable[[np.ndarray], float], n: int, config: LorahubConfig, seed: int
) -> tuple[np.ndarray, dict[str, str]]:
    """Minimise over [-bound, bound]^n from zero.

    Returns:
        The recommended point `[n]`; the optimiser that nevergrad's dispatcher chose, and nevergrad's version.
    """
    import nevergrad as ng
    import numpy as np

    bound = np.full(n, config.bound)
    space = ng.p.Array(init=np.zeros(n), lower=-bound, upper=bound)
    space.random_state = np.random.RandomState(seed_from("lorahub", seed) % 2**32)
    optimizer = ng.optimizers.registry[config.optimizer](parametrization=space, budget=config.budget)
    with warnings.catch_warnings():
        # nevergrad leaves COBYLA's final radius to SciPy, which warns while it chooses one.
        warnings.filterwarnings("ignore", "COBYLA: Invalid RHOEND", UserWarning)
        found = optimizer.minimize(objective).value
    chosen = getattr(optimizer, "optim", optimizer).name
    return found, {"optimizer": config.optimizer, "resolved": chosen, "nevergrad": ng.__version__}


def _unequal(ranks: Mapping[str, Mapping[str, int]]) -> str | None:
    """Why factors cannot be added, from ranks by expert and site."""
    names = list(ranks)
    for site in dict.fromkeys(site for sites in ranks.values() for site in sites):
        has = [f"rank {sites[site]}" if site in sites else "nothing" for sites in ranks.values()]
        for name, its in zip(names, has, strict=True):
            if its != has[0]:
                return (
                    f"LoRAHub adds the factors of its experts, and '{names[0]}' has {has[0]} at {site} where "
                    f"'{name}' has {its}: choose experts of equal ranks and sites"
                )
    return None
