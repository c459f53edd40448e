"""Which examples stand before a question: a function of seed, task and item id, never of position or order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from results.ground.digest import wide_seed
from tasks.base import Doc


class FewShot:
    """Draws examples for a task's questions from one pool of rows."""

    def __init__(self, task: str, pool: Sequence[Doc], shots: int, mode: Literal["fixed", "per_item"]) -> None:
        """Prepare drawing `shots` examples from `pool` (the expert-train part).

        Args:
            task: name, so that tasks draw independently.
            mode: `fixed` gives every item the same examples in the same order, `per_item` each its own.
        """
        self.task = task
        self.pool = sorted(pool, key=lambda doc: doc.id) if shots else []
        self.shots = shots
        self.mode = mode
        self._fixed: dict[int, list[Doc]] = {}

    def examples(self, doc: Doc, seed: int) -> list[Doc]:
        """The examples before `doc`, never `doc` itself."""
        if not self.shots:
            return []
        if self.mode == "per_item":
            drawn = self._draw(seed, doc.id)
        else:
            if seed not in self._fixed:
                self._fixed[seed] = self._draw(seed)
            drawn = self._fixed[seed]
        return [example for example in drawn if example.id != doc.id][: self.shots]

    def _draw(self, seed: int, *item: str) -> list[Doc]:
        generator = random.Random(wide_seed("few-shot", self.task, self.mode, seed, *item))
        return generator.sample(self.pool, min(self.shots + 1, len(self.pool)))
