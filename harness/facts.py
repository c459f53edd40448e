"""What every record of one plan says of its run: base model, budget, environment, command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from harness.bases.quantised import described, is_packed, weight_bytes
from harness.planning import estimate
from harness.planning.memory import peak_bytes
from harness.provenance import environment, release
from harness.training.tuning import trial_scales
from results.schema import Budget, Environment, ModelProvenance

if TYPE_CHECKING:
    from harness.planning.plan import Cell, Plan


@dataclass(frozen=True)
class Facts:
    """Facts of a plan on a device, read once and only when something asks.

    Args:
        plan: the cells' plan.
        device: where they are computed.
        arguments: of the command that computes them.
    """

    plan: Plan
    device: str
    arguments: Sequence[str] = ()

    @cached_property
    def parameters(self) -> int:
        """Parameters of the base model."""
        return estimate.parameter_count(self.plan.model_config)

    @cached_property
    def memory(self) -> int:
        """Bytes that computing takes at most, about."""
        from harness.training.packing import takes_packed
        from methods.shapes import meta_model

        section, config = self.plan.config.model, self.plan.model_config
        packed = weight_bytes(config, section) if is_packed(section, config) else None
        packs = self.device == "cpu" and takes_packed(meta_model(config))
        return peak_bytes(self.plan, self.parameters, packed, packs=packs)

    @cached_property
    def pace(self) -> float:
        """Forward tokens a second, from a matrix product that is timed once."""
        from harness.models import rounding

        with rounding(self.plan.config.model):
            return estimate.tokens_per_second(self.parameters, self.device)

    def seconds(self, work: estimate.Work) -> float:
        """Estimated seconds of some work on the device."""
        return work.equivalent / self.pace

    @cached_property
    def model(self) -> ModelProvenance:
        """The base model."""
        from harness.models import resolve

        section = self.plan.config.model
        return ModelProvenance(
            name=section.name,
            revision=self.plan.model_revision,
            label=resolve(section.name)[1] + described(self.plan.model_config),
            parameters=self.parameters,
            dtype=section.arithmetic,
            chat_template=section.chat_template,
        )

    @property
    def environment(self) -> Environment:
        """Packages, hardware, commit."""
        return environment(self.device)

    @property
    def made(self) -> dict[str, str]:
        """What equal settings give equal numbers with: versions and hardware."""
        found = self.environment
        names = ("torch", "transformers", "peft", "bitsandbytes", "numpy")
        packages = {name: found.packages.get(name, "") for name in names}
        cards = found.hardware.partition(";")[0]
        device = cards.rpartition(", ")[0] or cards  # but for memory
        return packages | {"harness": f"{release()} {found.git_commit or ''}".strip(), "device": device}

    def budget(self, cell: Cell) -> Budget:
        """What the cell's method may spend."""
        config = self.plan.config
        return Budget(
            preset=config.preset,
            expert_tokens=config.experts.tokens or 0,
            router_tokens=config.routers.tokens or 0,
            router_examples=config.routers.examples,
            eval_items=cell.task.bound.settings.limit,
            max_new_tokens=config.eval.max_new_tokens,
            tuning_trials=len(trial_scales(config, cell.method.method)),
        )
