"""Each task's own expert alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import nn

from methods.routing import Composed, Expert, Method, Track, Unsupported, check_architecture, install_static


class Lora(Method):
    """Single-task LoRA, which is hard routing with known tasks: the oracle row."""

    track: ClassVar[Track] = "reference"

    @property
    def uses_task_identity(self) -> bool:
        """The task chooses the expert."""
        return True

    def per_task(self) -> bool:
        """See `Method.per_task`."""
        return True

    def serves(self, pool: Sequence[str], own: str | None) -> bool:
        """Only tasks with an expert of their own."""
        return own in pool

    def depends_on(self, pool: Sequence[str], own: str | None) -> tuple[str, ...]:
        """The task's own expert."""
        return (own,) if own in pool and own is not None else ()

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        check_architecture(model_config)

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> Composed:
        """See `Method.install`.

        Raises:
            Unsupported: not exactly one expert was given.
        """
        if len(experts) != 1:
            raise Unsupported(f"lora takes the task's own expert alone and was given {len(experts)}: name one.")
        return install_static(model, experts, lambda site: [1.0])
