"""Trackio: https://pypi.org/project/trackio. Local unless TRACKIO_SPACE_ID or TRACKIO_SERVER_URL is set."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from harness.tracking.tracker import PROJECT, Outcome, Rows, settings
from results.schema import RunInfo


class Trackio:
    """One Trackio run in the project of TRACKIO_PROJECT."""

    def __init__(self) -> None:
        self._run: Any = None

    def begin(self, run: RunInfo) -> None:
        """See `Tracker`."""
        import trackio

        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT") or PROJECT,
            group=run.name,
            config=settings(run),
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )

    def curve(self, name: str, steps: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """See `Tracker`."""
        for step, numbers in steps:
            self._run.log({f"{name}/{key}": value for key, value in numbers.items()}, step=step)

    def values(self, name: str, numbers: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._run.log({f"{name}/{key}": value for key, value in numbers.items()})

    def table(self, rows: Rows) -> None:
        """See `Tracker`."""
        import trackio

        table = trackio.Table(columns=list(rows.columns), data=[list(row) for row in rows.rows])
        self._run.log({rows.name: table, f"{rows.name} with notes": trackio.Markdown(rows.text)})

    def end(self, outcome: Outcome) -> None:
        """See `Tracker`."""
        if self._run is not None:
            import trackio

            self._run.log({"outcome": outcome})
            trackio.finish()
