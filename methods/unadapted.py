"""The base model as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import nn

from methods.routing import Composed, Expert, Method, RoutingContext, Track


class Unadapted(Method):
    """Injects nothing: the row that every other row is compared with."""

    track: ClassVar[Track] = "reference"

    def seeded(self) -> bool:
        """See `Method.seeded`."""
        return False

    def depends_on(self, pool: Sequence[str], own: str | None) -> tuple[str, ...]:
        """No expert."""
        return ()

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> Composed:
        """See `Method.install`."""
        return _Nothing(model, RoutingContext(), [])


class _Nothing(Composed):
    def uninstall(self) -> None:
        """Nothing was put in."""
