"""One expert alone: each task's own, or one that is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field
from torch import nn

from methods.routing import (
    Composed,
    Expert,
    Method,
    MethodConfig,
    Track,
    Unsupported,
    check_architecture,
    install_static,
)
from results.ground.names import nearest


class LoraConfig(MethodConfig):
    """Configuration of `lora`."""

    later: ClassVar[frozenset[str]] = frozenset({"expert"})

    expert: str | None = Field(
        default=None, description="An expert of the pool for every task; null takes each task's own."
    )


class Lora(Method):
    """Single-task LoRA, which is hard routing with known tasks: the oracle row. Or one named expert for all tasks."""

    Config: ClassVar[type[MethodConfig]] = LoraConfig
    config: LoraConfig
    track: ClassVar[Track] = "reference"

    def seeded(self) -> bool:
        """See `Method.seeded`."""
        return False

    @property
    def uses_task_identity(self) -> bool:
        """The task chooses the expert, unless it is named."""
        return self.config.expert is None

    def per_task(self) -> bool:
        """See `Method.per_task`."""
        return self.config.expert is None

    def serves(self, pool: Sequence[str], own: str | None) -> bool:
        """Only tasks with an expert of their own, unless it is named."""
        return self.config.expert is not None or own in pool

    def depends_on(self, pool: Sequence[str], own: str | None) -> tuple[str, ...]:
        """The task's own expert, or the named one."""
        wanted = self.config.expert or own
        return (wanted,) if wanted is not None and wanted in pool else ()

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        check_architecture(model_config)
        named = self.config.expert
        if named is not None and named not in pool:
            raise Unsupported(f"The pool has no expert '{named}': {nearest(named, pool)}")

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> Composed:
        """See `Method.install`.

        Raises:
            Unsupported: not exactly one expert was given.
        """
        if len(experts) != 1:
            raise Unsupported(f"lora takes one expert alone and was given {len(experts)}: name one.")
        return install_static(model, experts, lambda site: [1.0])
