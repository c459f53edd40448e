"""Weights & Biases: https://docs.wandb.ai. Its own variables hold: WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY, ..."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from harness.tracking.tracker import PROJECT, Outcome, Rows, settings
from results.schema import RunInfo


class Wandb:
    """One W&B run in the group of the run's name."""

    def __init__(self) -> None:
        self._run: Any = None

    def begin(self, run: RunInfo) -> None:
        """See `Tracker`."""
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=os.environ.get("WANDB_NAME") or run.name,
            group=run.name,
            config=settings(run),
            reinit="create_new",
        )

    def curve(self, name: str, steps: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """See `Tracker`; W&B's own step only grows, so every curve has a step of its own."""
        self._run.define_metric(f"{name}/*", step_metric=f"{name}/step")
        for step, numbers in steps:
            self._run.log({f"{name}/step": step, **{f"{name}/{key}": value for key, value in numbers.items()}})

    def values(self, name: str, numbers: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._run.log({f"{name}/{key}": value for key, value in numbers.items()})

    def table(self, rows: Rows) -> None:
        """See `Tracker`."""
        import wandb

        self._run.log({rows.name: wandb.Table(columns=list(rows.columns), data=[list(row) for row in rows.rows])})

    def end(self, outcome: Outcome) -> None:
        """See `Tracker`."""
        if self._run is not None:
            self._run.finish(exit_code=0 if outcome == "finished" else 1)
