"""What a tracker is, and which there are."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from results.ground.errors import HarnessError
from results.ground.names import unknown
from results.schema import RunInfo

Outcome = Literal["finished", "failed", "interrupted"]
PROJECT = "lora-harness"
"""Project, or experiment, that runs go to where the tracker's own environment variable names none."""


@dataclass(frozen=True)
class Rows:
    """A table as plain rows.

    Attributes:
        name: e.g. `comparison`.
        columns: headings.
        rows: one value a heading; a column holds numbers and None alone, or texts alone.
        text: the same as Markdown, with intervals and notes.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[float | str | None]]
    text: str


class Tracker(Protocol):
    """One backend. Every method may raise anything: `Observer` turns it into one line."""

    def begin(self, run: RunInfo) -> None:
        """Start a tracked run with the run's name, commands and configurations."""

    def curve(self, name: str, steps: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """A training log: values by term at each optimiser step, to stand as `name/term`."""

    def values(self, name: str, numbers: Mapping[str, float]) -> None:
        """Numbers of one finished cell, to stand as `name/number`."""

    def table(self, rows: Rows) -> None:
        """A table of results."""

    def end(self, outcome: Outcome) -> None:
        """Send what is left and close the tracked run."""


class Untracked:
    """The tracker of a run that is not tracked."""

    def begin(self, run: RunInfo) -> None:
        """Nothing."""

    def curve(self, name: str, steps: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Nothing."""

    def values(self, name: str, numbers: Mapping[str, float]) -> None:
        """Nothing."""

    def table(self, rows: Rows) -> None:
        """Nothing."""

    def end(self, outcome: Outcome) -> None:
        """Nothing."""


TRACKERS = {
    "trackio": ("harness.tracking.trackio", "Trackio", "local dashboard (`trackio show`), or a Space"),
    "wandb": ("harness.tracking.wandb", "Wandb", "Weights & Biases; WANDB_MODE=offline keeps it here"),
    "mlflow": ("harness.tracking.mlflow", "Mlflow", "MLflow; MLFLOW_TRACKING_URI names a server or an SQLite file"),
}
"""Module, class and description by name; the name is also the backend's package and the extra that installs it."""


def tracker(name: str) -> Tracker:
    """A tracker by name. Its package is looked for, and imported only by `begin`.

    Raises:
        HarnessError: there is no such tracker, or its package is not installed.
    """
    if name not in TRACKERS:
        raise unknown("tracker", name, TRACKERS)
    if not installed(name):
        raise HarnessError(f"--track {name} needs {name}: pip install '.[{name}]' in the harness's checkout.")
    module, cls, _ = TRACKERS[name]
    made: Tracker = getattr(importlib.import_module(module), cls)()
    return made


def installed(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def settings(run: RunInfo) -> dict[str, Any]:
    """What a tracker shows as the run's configuration: the latest command and every variant's settings, with dotted
    keys; those of a labelled variant begin with its label."""
    found: dict[str, Any] = {"command": " ".join(["harness", *run.arguments]), "started": run.started}
    for variant in run.variants:
        _flatten(found, f"{variant.label}." if variant.label else "", variant.config)
    return found


def _flatten(found: dict[str, Any], prefix: str, value: Any) -> None:
    if isinstance(value, Mapping) and value:
        for key, one in value.items():
            _flatten(found, f"{prefix}{key}.", one)
    else:
        found[prefix.removesuffix(".")] = value
