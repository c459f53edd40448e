"""One expert of the pool for everything: the one with the lowest loss on development rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from methods.base import Composed, Expert, Method, MethodConfig, Session, Unsupported
from methods.development import DevConfig, dev_loss
from methods.pool import PoolExpert, has_no_rows
from methods.routing.inject import check_architecture
from methods.turns import InTurn


class BestSingleConfig(DevConfig):
    """Configuration of `best-single`."""

    mode: Literal["pooled", "per_task"] = Field(
        default="pooled",
        description="One expert for all tasks, by the mean over them, or one for each task by its own.",
    )


class Single(InTurn):
    """A pool of which one expert is on for good, once it is chosen."""

    def choose(self, index: int) -> None:
        """Turn an expert on; -1 turns all off."""
        self._turn.index = None if index < 0 else index

    @property
    def chosen(self) -> int:
        """Index of the expert that is on, or -1."""
        return -1 if self._turn.index is None else self._turn.index

    def merged(self, name: str) -> Expert:
        """The chosen expert.

        Raises:
            Unsupported: none is chosen.
        """
        if self.chosen < 0:
            raise Unsupported("no expert is chosen yet: fit it first")
        return Expert(name, self.pool[self.chosen].sites)

    def state(self) -> dict[str, Tensor]:
        """The choice."""
        return {"chosen": torch.tensor([self.chosen])}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`; refuses missing or unexpected names with KeyError."""
        if state.keys() != {"chosen"}:
            raise KeyError(f"state names differ: {sorted(state.keys() ^ {'chosen'})}")
        self.choose(int(state["chosen"]))


class BestSingle(Method):
    """The expert whose mean loss over the pool's tasks is lowest, alone, for every task."""

    Config: ClassVar[type[MethodConfig]] = BestSingleConfig
    config: BestSingleConfig

    @property
    def uses_task_identity(self) -> bool:
        """Each task has its own choice, unless they are pooled."""
        return self.per_task()

    def per_task(self) -> bool:
        """See `Method.per_task`."""
        return self.config.mode == "per_task"

    def trains(self) -> bool:
        """See `Method.trains`."""
        return True

    def has_learning_rate(self) -> bool:
        """See `Method.has_learning_rate`."""
        return False

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        check_architecture(model_config)

    def takes(self, pool: Sequence[PoolExpert]) -> str | None:
        """See `Method.takes`."""
        return super().takes(pool) or (has_no_rows(pool, "dev", "development rows") if self.trains() else None)

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> Single:
        """See `Method.install`.

        Raises:
            AdapterError: an expert does not fit the model.
        """
        return Single(model, experts)

    def fit(self, composed: Composed, session: Session) -> None:
        """Try every expert on development rows and keep the best; of equal ones the first of the pool."""
        assert isinstance(composed, Single)
        losses = []
        for index, name in enumerate(composed.experts):
            composed.choose(index)
            losses.append(dev_loss(composed, session, self.config.dev_rows))
            session.note({"phase": "search", "expert": name, "dev_loss": losses[-1]})
            session.progress(index + 1, len(composed.experts))
        finite = [index for index, loss in enumerate(losses) if math.isfinite(loss)]
        if not finite:
            raise RuntimeError("no expert has a finite loss on the development rows.")
        best = min(finite, key=losses.__getitem__)
        composed.choose(best)
        session.note({"phase": "found", "expert": composed.experts[best], "dev_loss": losses[best]})

    def notes(self, composed: Composed) -> list[str]:
        """Which expert was chosen."""
        assert isinstance(composed, Single)
        return [f"{self.name}: the expert {composed.experts[composed.chosen]}, chosen on development rows."]
