"""Parameters of composed models, counted by composing on the meta device: no weights, no download.

What is counted is what the methods' own code installs, so a method is counted as soon as it is registered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from methods.architectures import Architecture
from methods.base import Comparison, Expert, Method, SiteFactors, Unsupported
from methods.experts import linear_sites
from results.ground.loading import model_of


@dataclass(frozen=True)
class Count:
    """Parameters that a method adds to a base model.

    Attributes:
        trainable: trained by gradient, by group.
        stored: kept without being trained by gradient, by group.
        refusal: why the method cannot be used here; then both are empty.
        passes: of the base model behind every pass of the composed one.
    """

    trainable: Mapping[str, int] = field(default_factory=dict)
    stored: Mapping[str, int] = field(default_factory=dict)
    refusal: str | None = None
    passes: int = 1

    @property
    def total_trainable(self) -> int:
        """Over all groups."""
        return sum(self.trainable.values())

    @property
    def total_stored(self) -> int:
        """Over all groups."""
        return sum(self.stored.values())


@dataclass(frozen=True)
class Shares:
    """A count in percent: of the base alone, and of the base with all that the method adds (as PEFT prints it)."""

    of_base: float
    of_all: float


def shares(part: int, count: Count, base: int) -> Shares:
    """`part` of a count over both denominators; `base` is the number of the base model's parameters."""
    added = count.total_trainable + count.total_stored
    return Shares(100 * part / base, 100 * part / (base + added))


class Skeleton:
    """A base model on the meta device with a pool of LoRAs of one rank.

    Attributes:
        model: without weights.
        config: its `transformers` configuration.
        comparison: what methods are told of the pool; alpha is 2 rank.
        experts: the pool.
        parameters: number of the base model's parameters.
    """

    def __init__(self, config: Any, *, targets: Sequence[str], rank: int, pool: Sequence[str]) -> None:
        """Build.

        Args:
            config: the base's `transformers` configuration.
            targets: last parts of the module paths where LoRAs go.
            rank: of every LoRA.
            pool: names of the experts.

        Raises:
            AdapterError: a target that no linear layer has.
        """
        self.config = config
        self.model = meta_model(config)
        self.parameters = sum(parameter.numel() for parameter in self.model.parameters())
        self.comparison = Comparison(tuple(pool), rank, 2.0 * rank, 0.0, tuple(targets), 1e-4)
        sites = linear_sites(self.model, targets)
        self.experts = [Expert(name, {s: _factors(linear, rank) for s, linear in sites.items()}) for name in pool]

    @classmethod
    def of(
        cls, architecture: Architecture, *, rank: int, pool: Sequence[str], targets: Sequence[str] | None = None
    ) -> Skeleton:
        """From a shipped architecture, by default with its usual targets; its size is that of the published weights."""
        config = library_config(architecture)
        found = cls(config, targets=targets or architecture.targets, rank=rank, pool=pool)
        found.parameters = architecture.parameters
        return found

    def one_expert(self) -> int:
        """Parameters of one LoRA of the pool."""
        return sum(f.A.numel() + f.B.numel() for f in self.experts[0].sites.values())

    def count(self, method: Method) -> Count:
        """What a method adds, for a task whose own expert is the pool's first."""
        method = method.within(self.comparison)
        names = self.comparison.experts
        wanted = method.depends_on(names, names[0])
        try:
            method.check(self.config, names)
            # Inside the context even initial values are shapes only, whatever device they would be drawn on.
            with torch.device("meta"):
                pool = [expert for expert in self.experts if expert.name in wanted]
                composed = method.install(self.model, pool, seed=0)
        except Unsupported as error:
            return Count(refusal=str(error))
        try:
            groups = {name: sum(p.numel() for p in group.values()) for name, group in composed.groups().items()}
            return Count(groups, composed.stored(), passes=composed.passes)
        finally:
            composed.uninstall()


def library_config(architecture: Architecture) -> Any:
    """The `transformers` configuration of a shipped architecture."""
    from transformers import AutoConfig

    values = dict(architecture.config)
    return AutoConfig.for_model(values.pop("model_type"), **values)


def meta_model(config: Any) -> nn.Module:
    """A language model of a configuration on the meta device."""
    with torch.device("meta"):
        model: nn.Module = model_of(config)
    return model.eval()


def _factors(linear: nn.Linear, rank: int) -> SiteFactors:
    A = torch.empty(rank, linear.in_features, device="meta")
    return SiteFactors(A, torch.empty(linear.out_features, rank, device="meta"), 2.0)
