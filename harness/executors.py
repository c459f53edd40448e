"""Where the units of a run are computed: one after another here, or spread over a Ray cluster.

A unit is one expert, or one composed model with all its tasks. Units meet only in the stage store and the run folder,
so an executor is a function that calls each of them somewhere; a cluster needs both on a shared file system.
"""

from __future__ import annotations

import gc
import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from results.ground.errors import HarnessError

if TYPE_CHECKING:
    from harness.engine import Engine
    from harness.planning.sections import RunConfig
    from harness.progress import Progress


@dataclass(frozen=True)
class Work:
    """What a process elsewhere needs to take its part in a run: it plans the same cells anew."""

    config: RunConfig
    folder: str
    stages: str
    arguments: tuple[str, ...]


Worker = Callable[[Work, str, str], None]
"""Computes one unit, given what the run is, the unit's kind (`expert` or `cells`) and its key."""


SHARED = "shared"
SLURM = "slurm"
"""Submits a run instead of computing it (`harness.slurm`)."""

_SHORTEST, _LONGEST = 0.2, 5.0
"""Seconds between two looks at what other processes are at."""


@contextmanager
def settled() -> Iterator[None]:
    """What exists at the start stays: the collection of garbage that begins every fit looks at what came after.

    Looking through all modules and rows takes a third of a second. Whoever has frozen them already is left alone.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def local(engine: Engine, progress: Progress, worker: Worker) -> None:
    """One unit after another in this process, the base model loaded once; `worker` is not needed.

    Processes that share a stage store divide the work: what another one is at is left to it, and waited for once there
    is nothing else to do.
    """
    pause, waited = _SHORTEST, ""
    while units := engine.units():
        waits = [unit(progress) for unit in units]
        if None in waits:
            pause = _SHORTEST
            continue
        wait = next(wait for wait in waits if wait is not None)
        said = f"Waiting for {wait.name}: {engine.stages.claimant(wait.kind, wait.key)} computes it."
        if said != waited:
            sys.stderr.write(f"harness: {said}\n")
        waited = said
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST)


def ray(engine: Engine, progress: Progress, worker: Worker) -> None:
    """One Ray task for each unit: first all experts, then all composed models.

    Raises:
        HarnessError: Ray is not installed.
    """
    try:
        import ray as cluster
    except ImportError as error:
        raise HarnessError("The ray executor needs Ray: pip install '.[ray]' in the harness's checkout.") from error
    cluster.init(ignore_reinit_error=True, log_to_driver=False)
    gpus = 1 if engine.device.startswith("cuda") else 0
    remote = cluster.remote(num_gpus=gpus)(worker)
    work = Work(
        engine.plan.config,
        str(engine.folder.path.resolve()),
        engine.stages.address,
        tuple(engine.facts.arguments),
    )
    for kind, keys in (
        ("expert", lambda: [expert.key for expert in engine.backlog.missing_experts()]),
        ("cells", lambda: [group[0].key for group in engine.backlog.groups()]),
    ):
        waiting = {remote.remote(work, kind, key): key for key in keys()}
        done = 0
        with progress.job(f"{len(waiting)} units ({kind})", progress.total / 2) as job:
            while waiting:
                (ready, *_), _ = cluster.wait(list(waiting), num_returns=1)
                cluster.get(ready)
                computed_elsewhere(engine, kind, waiting.pop(ready))
                done += 1
                job(done, done + len(waiting))


def compute_unit(work: Work, kind: str, key: str) -> None:
    """Compute one unit of a run in a process that plans the same cells anew."""
    from harness import models
    from harness.engine import Engine
    from harness.planning.plan import Plan
    from harness.planning.sources import open_source
    from harness.planning.stores import stage_store
    from harness.progress import Progress
    from results.store import RunFolder

    models.quiet_libraries()
    plan = Plan(work.config, open_source(work.config.data))
    device = models.resolve_device(plan.config.model.device)
    folder, stages = RunFolder.open(Path(work.folder)), stage_store(work.stages)
    engine = Engine(plan, stages, folder, device, models.LoadedModels(), work.arguments)
    progress = Progress(1.0, io.StringIO())
    if kind == "expert":
        for expert in engine.work.missing_experts():
            if expert.key == key:
                engine.settle_expert(expert, progress)
    else:
        first = next(cell for cell in plan.cells if cell.key == key)
        own = {cell.key for cell in plan.cells if cell.group == first.group}
        engine = Engine(plan, stages, folder, device, models.LoadedModels(), work.arguments, only=own)
        local(engine, progress, compute_unit)


def computed_elsewhere(engine: Engine, kind: str, key: str) -> None:
    """Tell a run's observer about a unit that another process has computed.

    Args:
        engine: of the run.
        kind: `expert` or `cells`.
        key: of the expert, or of the group's first cell.
    """
    from results.stages import EXPERT

    if kind == "expert":
        if engine.stages.load(EXPERT, key):
            engine.observer.expert(engine.stages.meta(EXPERT, key))
        return
    first = next(cell for cell in engine.plan.cells if cell.key == key)
    for cell in engine.plan.cells:
        if cell.group == first.group:
            record = engine.folder.record(cell.key)
            if record is not None:
                engine.observer.cell(record)


EXECUTORS: dict[str, Callable[[Engine, Progress, Worker], None]] = {
    "local": local,
    SHARED: local,
    "ray": ray,
}
"""What computes a run; `SHARED` is one of several processes that do so (`Run.compute`)."""
