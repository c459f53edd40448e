"""Where the units of a run are computed: one after another here, or spread over a Ray cluster.

A unit is one expert, or one composed model with all its tasks. Units meet only in the stage store and the run folder,
so an executor is a function that calls each of them somewhere; a cluster needs both on a shared file system.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from results.ground.errors import HarnessError

if TYPE_CHECKING:
    from harness.engine import Engine
    from harness.progress import Progress


def execute(engine: Engine, progress: Progress, executor: str) -> None:
    """Compute every cell of a plan that the run's folder is missing; failures become records.

    Raises:
        HarnessError: the executor's package is not installed.
    """
    engine.refuse()
    EXECUTORS[executor](engine, progress)


def local(engine: Engine, progress: Progress) -> None:
    """One unit after another in this process, the base model loaded once."""
    for expert in engine.missing_experts():
        engine.train_expert(expert, progress)
    # Before the run's own model is loaded for the rest: there is room for one.
    for cell in engine.missing_fits():
        engine.fit_origin(cell, progress)
    for group in engine.groups():
        engine.compute(group, progress)


def ray(engine: Engine, progress: Progress) -> None:
    """One Ray task for each unit: first all experts, then all composed models.

    Raises:
        HarnessError: Ray is not installed.
    """
    try:
        import ray as cluster
    except ImportError as error:
        raise HarnessError("The ray executor needs Ray: pip install 'lora-harness[ray]'.") from error
    cluster.init(ignore_reinit_error=True, log_to_driver=False)
    gpus = 1 if engine.device.startswith("cuda") else 0
    remote = cluster.remote(num_gpus=gpus)(_unit)
    described = (
        engine.plan.config.model_dump(mode="json"),
        str(engine.run.path.resolve()),
        str(engine.stages.root.resolve()),
        engine.arguments,
    )
    for kind, keys in (
        ("expert", lambda: [expert.key for expert in engine.missing_experts()]),
        ("cells", lambda: [group[0].key for group in engine.groups()]),
    ):
        waiting = {remote.remote(*described, kind, key): key for key in keys()}
        done = 0
        with progress.job(f"{len(waiting)} units ({kind})", progress.total / 2) as job:
            while waiting:
                (ready, *_), _ = cluster.wait(list(waiting), num_returns=1)
                cluster.get(ready)
                del waiting[ready]
                done += 1
                job(done, done + len(waiting))


def _unit(config: dict[str, Any], run: str, stages: str, arguments: list[str], kind: str, key: str) -> None:
    """Compute one unit in a worker process, which plans the same run anew from its configuration."""
    import io
    from pathlib import Path

    from harness.commands.run import quiet_libraries
    from harness.config import validate
    from harness.engine import Engine, LoadedModels
    from harness.plan import Plan
    from harness.progress import Progress
    from harness.sources import open_source
    from results.stages import Stages
    from results.store import RunFolder

    quiet_libraries()
    resolved = validate(config)
    plan = Plan(resolved, open_source(resolved.data))
    engine = Engine(plan, Stages(Path(stages)), RunFolder.open(Path(run)), arguments, LoadedModels())
    progress = Progress(1.0, io.StringIO())
    if kind == "expert":
        for expert in engine.missing_experts():
            if expert.key == key:
                engine.train_expert(expert, progress)
    else:
        for group in engine.groups():
            if group[0].key == key:
                engine.compute(group, progress)


EXECUTORS: dict[str, Callable[[Engine, Progress], None]] = {"local": local, "ray": ray}
