"""Where the units of a run are computed: one after another here, by several plain processes, or on a Ray cluster.

Units (experts, fits, evaluations, scores) meet only in the stage store and the run's folder, so an executor is a
function that has each of them computed somewhere; other machines must see both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from harness.executors.local import LOCAL, SHARED, SLURM, local, settled
from harness.executors.ray import on_ray

if TYPE_CHECKING:
    from harness.engine import Engine
    from harness.progress import Progress

RAY = "ray"

EXECUTORS: dict[str, Callable[[Sequence[Engine], Progress, int | None], None]] = {
    LOCAL: local,
    SHARED: local,
    RAY: on_ray,
}
"""What computes the engines of a run, given how many workers are asked for; `SHARED` is one of several processes that
do so (`Run.compute`)."""

__all__ = ["EXECUTORS", "LOCAL", "RAY", "SHARED", "SLURM", "local", "on_ray", "settled"]
