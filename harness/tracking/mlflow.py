"""MLflow: https://mlflow.org/docs/latest/ml/tracking. Its own variables hold: MLFLOW_TRACKING_URI, ..."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from harness.tracking.tracker import PROJECT, Outcome, Rows, settings
from results.schema import RunInfo

BATCH, PARAMS, LONGEST = 1000, 100, 6000
"""Metrics and parameters that MLflow takes at once, and the longest value of a parameter."""
STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class Mlflow:
    """One MLflow run in the experiment of MLFLOW_EXPERIMENT_NAME."""

    def __init__(self) -> None:
        self._client: Any = None
        self._run = ""

    def begin(self, run: RunInfo) -> None:
        """See `Tracker`; a server that does not answer is given up after two more tries rather than minutes."""
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        found = client.get_experiment_by_name(name)
        experiment = found.experiment_id if found is not None else client.create_experiment(name)
        self._run = client.create_run(experiment, run_name=run.name).info.run_id
        self._client = client
        params = (Param(_key(key), str(value)[:LONGEST]) for key, value in settings(run).items())
        for batch in _batches(params, PARAMS):
            client.log_batch(self._run, params=batch)

    def curve(self, name: str, steps: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """See `Tracker`."""
        self._log((f"{name}/{key}", value, step) for step, numbers in steps for key, value in numbers.items())

    def values(self, name: str, numbers: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._log((f"{name}/{key}", value, 0) for key, value in numbers.items())

    def table(self, rows: Rows) -> None:
        """See `Tracker`: as the artifacts NAME.json, which the runs' page compares, and NAME.md."""
        columns = {heading: [row[at] for row in rows.rows] for at, heading in enumerate(rows.columns)}
        self._client.log_table(self._run, columns, f"{rows.name}.json")
        self._client.log_text(self._run, rows.text, f"{rows.name}.md")

    def end(self, outcome: Outcome) -> None:
        """See `Tracker`."""
        if self._client is not None:
            self._client.set_terminated(self._run, STATUS[outcome])

    def _log(self, numbers: Iterator[tuple[str, float, int]]) -> None:
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        for batch in _batches((Metric(_key(key), value, now, step) for key, value, step in numbers), BATCH):
            self._client.log_batch(self._run, metrics=batch)


def _key(name: str) -> str:
    """A name with MLflow's characters alone: `mixer[loss.entropy.sign=-1]` becomes `mixer loss.entropy.sign:-1`."""
    spelled = name.translate(str.maketrans("[=,@", " :  ", "]"))
    return re.sub(r"[^\w\-. :/]", "_", spelled)


def _batches(entries: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while batch := list(islice(entries, size)):
        yield batch
