"""A run is a value: its configurations, the folder that holds their cells, and what computes what is missing.

The command line and notebooks call the same thing. `Run.start` plans and validates and changes nothing; `compute` takes
the folder's lock, joins the plan to what the folder holds, and computes what no stage has.
"""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import models
from harness.engine import Engine
from harness.executors import EXECUTORS, RAY, SHARED, SLURM, settled
from harness.failures import TRIED
from harness.planning import graph
from harness.planning.backlog import planned_cell
from harness.planning.choices import ask_scoring
from harness.planning.config import validate
from harness.planning.graph import Unit
from harness.planning.plan import Cell, Plan
from harness.planning.room import Room, require_room, room
from harness.planning.sources import open_source
from harness.planning.stores import stage_store
from harness.planning.variants import Variant, changed, default_folder, planned_variant
from harness.progress import Progress
from harness.tracking.observer import Observer
from harness.views import View
from results.ground.digest import canonical
from results.ground.errors import HarnessError
from results.ground.names import unknown
from results.planned import extended, superseded
from results.schema import Command, PlannedCell, Record, RunInfo
from results.store import RunFolder

if TYPE_CHECKING:
    from harness.export import Exported, Form


class Run(View):
    """The cells of some configurations, in one folder: what a folder says, and what computes what it lacks.

    Args:
        path: the run's folder.
        variants: its configurations; None for those that the folder holds.
        arguments: of the command, for records and `run.yaml`.
        replace: start the folder anew instead of extending it.
        fetch: whether a bundled model or bundled data that is not in the cache yet may be fetched.

    Raises (on construction):
        StoreError: the folder holds something else, or a run that cannot be read.
    """

    def __init__(
        self,
        path: Path,
        variants: Sequence[Variant] | None = None,
        *,
        arguments: Sequence[str] = (),
        replace: bool = False,
        fetch: bool = True,
    ) -> None:
        super().__init__(path, RunFolder.find(path) or RunFolder(path, RunInfo(name=path.name)))
        self.stages = stage_store()
        self.arguments = list(arguments)
        self.replace = replace
        self.fetch = fetch
        self._variants = variants
        self._models = models.LoadedModels()

    @classmethod
    def start(
        cls,
        variants: Sequence[Variant],
        path: Path | None = None,
        *,
        arguments: Sequence[str] = (),
        replace: bool = False,
        fetch: bool = True,
    ) -> Run:
        """Plan some configurations. The folder is not touched, whether it holds a run already or not.

        Args:
            variants: at least one.
            path: the run's folder; default `results/runs/` and a name that follows from the configurations.
            arguments: of the command, for records and `run.yaml`.
            replace: start the folder anew instead of extending it.
            fetch: whether a bundled model or bundled data that is not in the cache yet may be fetched.

        Raises:
            HarnessError: a mistake in a configuration, rows that cannot be used and leave nothing to compute, or a
                folder that cannot take this run.
        """
        models.quiet_libraries()
        for config in {variant.config.model.name: variant.config for variant in variants}.values():
            models.require(config.model.name, fetch=fetch)
        resolved = [Variant(models.with_targets(one.config), one.label) for one in variants]
        folder = default_folder(resolved) if path is None else path.expanduser()
        run = cls(folder, resolved, arguments=arguments, replace=replace, fetch=fetch)
        _ = run.info
        if run.faults and all(cell.refusal for plan in run.plans for cell in plan.cells):
            raise HarnessError(" ".join(run.faults))
        return run

    @classmethod
    def open(cls, path: Path, *, arguments: Sequence[str] = ()) -> Run:
        """A run that a folder holds, with every configuration it ever had; nothing is planned until something asks.

        Raises:
            StoreError: the folder is no run.
        """
        RunFolder.open(path)
        return cls(path, arguments=arguments)

    @cached_property
    def variants(self) -> list[Variant]:
        """The run's configurations.

        Raises:
            HarnessError: the folder keeps none.
        """
        if self._variants is not None:
            return list(self._variants)
        if not self.folder.info.variants:
            raise HarnessError(f"{self.path} keeps no configuration: it can be reported, but not computed or changed.")
        return [Variant(validate(one.config), one.label) for one in self.folder.info.variants]

    @cached_property
    def plans(self) -> list[Plan]:
        """One plan for each configuration.

        Raises:
            HarnessError: a mistake in a configuration, or data or a model that is not at hand.
        """
        models.quiet_libraries()
        return [Plan(one.config, open_source(one.config.data, fetch=self.fetch)) for one in self.variants]

    @cached_property
    def info(self) -> RunInfo:
        """What `run.yaml` is to hold.

        Raises:
            StoreError: the folder holds the same cells under other settings.
        """
        return self._info(self.folder.info)

    def _info(self, before: RunInfo) -> RunInfo:
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        planned = RunInfo(
            name=self.path.name,
            commands=[Command(time=now, arguments=self.arguments)],
            variants=[planned_variant(variant) for variant in self.variants],
            cells=[
                planned_cell(cell, variant.label)
                for variant, plan in zip(self.variants, self.plans, strict=True)
                for cell in plan.cells
            ],
        )
        return planned if self.replace else extended(before, planned)

    @cached_property
    def engines(self) -> list[Engine]:
        """What computes each configuration; they share one base model in memory.

        Raises:
            HarnessError: there is no such device here.
        """
        return [
            Engine(
                plan,
                self.stages,
                self.folder,
                models.device_of(plan.config.model),
                self._models,
                self.arguments,
            )
            for plan in self.plans
        ]

    def units(self) -> list[Unit]:
        """What is left to compute, with estimated seconds and tokens, each unit after those that it needs."""
        return graph.units((engine.backlog.now(), engine.facts.seconds) for engine in self.engines)

    def room(self) -> Room:
        """What is left to write, in bytes, about."""
        return room(engine.backlog.now() for engine in self.engines)

    def tasks(self) -> dict[str, Any]:
        """The run's tasks, joined with their rows, by display name; those whose rows cannot be used are left out."""
        return {task.display: task.bound for plan in self.plans for task in plan.tasks if task.refusal is None}

    @cached_property
    def faults(self) -> dict[str, list[Cell]]:
        """What is wrong with rows, one sentence each, and the cells that are refused for it."""
        found: dict[str, list[Cell]] = {}
        for cell in (cell for plan in self.plans for cell in plan.cells if cell.fault):
            found.setdefault(str(cell.refusal), []).append(cell)
        return found

    def renewed(self) -> list[PlannedCell]:
        """Cells that take the place of older ones with equal settings: versions or data have moved on."""
        before = {} if self.replace else {cell.place: cell.cell for cell in self.folder.info.cells}
        return [cell for cell in self.info.cells if before.get(cell.place, cell.cell) != cell.cell]

    def own(self, records: Sequence[Record]) -> list[Record]:
        """Those of a folder's records that belong to this run's configurations, rather than to earlier commands."""
        keys = {cell.key for plan in self.plans for cell in plan.cells}
        return [record for record in records if record.cell in keys]

    def compute(
        self,
        executor: str = "local",
        progress: Progress | None = None,
        observer: Observer | None = None,
        workers: int | None = None,
    ) -> list[Record]:
        """Compute every cell that the folder is missing; failures become records.

        Everything is validated, and judges and sandboxes that pending cells need are asked, before the folder changes.

        Args:
            executor: `local`, `shared` or `ray`.
            progress: the display; by default one on standard error.
            observer: told what is finished, as it comes.
            workers: of `ray`; default as many as the cluster has room for.

        Returns:
            The records of the whole run.

        Raises:
            HarnessError: no such executor or device, or one that takes no `workers`, no judge or sandbox where one is
                needed, no room for what is to be written, or another process writes to the folder.
        """
        check_executor(executor)
        if workers is not None and executor != RAY:
            raise HarnessError(f"The executor {executor} is one process: leave out the number of workers.")
        engines = self.engines
        units = self.units()
        left = any(unit.kind != graph.SCORE for unit in units)
        self.ready()
        observer = observer or Observer()
        with self._joined() if executor == SHARED else self._writing(), observer.following(self.folder):
            models.remember_revisions()
            display = progress or Progress(sum(unit.seconds for unit in units))
            with display.shown(), settled() if left else nullcontext():
                for engine in engines:
                    engine.observe(observer)
                    engine.refuse()
                EXECUTORS[executor](engines, display, workers)
        return self.folder.records()

    def ready(self) -> None:
        """See that what is left can be computed and written.

        Raises:
            HarnessError: no judge or sandbox where one is needed, or no room.
        """
        self.stages.require()
        require_room(self.room(), self.stages.root, self.path)
        for task in _unscored(self.engines):
            ask_scoring(task)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the folder's lock, and join the plan to what the folder holds by now."""
        with self.folder.lock():
            self.folder.sweep()
            self.stages.sweep()
            stored = RunFolder.find(self.path)
            self.folder.write_plan(self._info(stored.info if stored else RunInfo(name=self.path.name)))
            if self.replace:
                _forget(self.folder)
            yield

    @contextmanager
    def _joined(self) -> Iterator[None]:
        """Take part in a run whose folder has its plan, and that other processes compute as well."""
        stored = RunFolder.find(self.path)
        if stored is None or not {cell.cell for cell in self.info.cells} <= {one.cell for one in stored.info.cells}:
            raise HarnessError(
                f"{self.path} does not plan these cells: the executor {SHARED} takes part in a run that `harness run "
                f"--executor {SLURM}` has written, with the same harness and data."
            )
        with self.folder.joined():
            self.folder.info = stored.info
            for engine in self.engines:
                engine.share()
            yield

    def share(self) -> None:
        """Write the plan for processes that compute it together (`compute("shared")`); what failed is tried again.

        Raises:
            HarnessError: no room for what is to be written, or another process writes to the folder.
        """
        self.stages.require()
        require_room(self.room(), self.stages.root, self.path)
        with self._writing():
            shutil.rmtree(self.path / TRIED, ignore_errors=True)
            for engine in self.engines:
                for cell in engine.backlog.pending():
                    shutil.rmtree(self.folder.cell_folder(cell.key), ignore_errors=True)
                engine.refuse()

    def rescore(self, task: str, changes: Sequence[str] = ()) -> int:
        """Score one task's stored outputs again, without a model; all other cells and all labels stay as they are.

        Args:
            task: as it stands in the run.
            changes: `key=value` settings that decide scores (a judge's, the minimum of isolation).

        Returns:
            The number of cells that were scored.

        Raises:
            HarnessError: no such task, outputs that are not stored, a setting that decides more than scores, or
                scoring is not possible.
        """
        known = dict.fromkeys(name for variant in self.variants for name in variant.config.tasks)
        if task not in known:
            raise unknown("task of this run", task, known)
        after = [Variant(changed(variant.config, changes), variant.label) for variant in self.variants]
        other = Run(self.path, after, arguments=self.arguments, replace=True)
        cells: list[tuple[Engine, Cell, str]] = []
        for old, engine, variant in zip(self.plans, other.engines, after, strict=True):
            for cell, before in zip(engine.plan.cells, old.cells, strict=True):
                scored = cell.spec.task == task
                if cell.outputs_key != before.outputs_key or (not scored and cell.key != before.key):
                    raise HarnessError("`--set` changes more than how outputs are scored: use `harness run`.")
                if scored and cell.refusal is None:
                    cells.append((engine, cell, variant.label))
        for engine, cell, _ in cells:
            if engine.backlog.lacks_outputs(cell):
                raise HarnessError(f"The outputs of {cell.spec.method} on {task} are not stored: run it again first.")
        for bound in _apart(cell for _, cell, _ in cells):
            ask_scoring(bound)
        with self.folder.lock():
            stored = RunFolder.open(self.path).info
            update = {
                "commands": [*stored.commands, *other.info.commands],
                "variants": other.info.variants,
                "cells": superseded(stored.cells, [planned_cell(cell, label) for _, cell, label in cells]),
            }
            for engine, cell in {cell.key: (engine, cell) for engine, cell, _ in cells}.values():
                engine.score(cell)
            self.folder.write_plan(stored.model_copy(update=update))
        return len(cells)

    def export(
        self,
        method: str,
        output: Path,
        *,
        task: str | None = None,
        seed: int | None = None,
        variant: str | None = None,
        form: Form = "composed",
        refer: bool = False,
        train: bool = False,
    ) -> Exported:
        """Write what the run composed, from its stored stages. See `harness.export.export`."""
        from harness.export import export

        engines = [(variant.label, engine) for variant, engine in zip(self.variants, self.engines, strict=True)]
        return export(
            engines, method, output, task=task, seed=seed, variant=variant, form=form, refer=refer, train=train
        )


def check_executor(name: str) -> None:
    """Raises:
    HarnessError: there is no such executor.
    """
    if name not in EXECUTORS:
        raise unknown("executor", name, EXECUTORS)


def _unscored(engines: Sequence[Engine]) -> list[Any]:
    """Tasks of pending cells."""
    return _apart(cell for engine in engines for cell in engine.backlog.pending() if cell.refusal is None)


def _apart(cells: Iterable[Cell]) -> list[Any]:
    """Tasks of cells, each once with each judge and sandbox that scores it."""
    bounds = [cell.task.bound for cell in cells]
    return list({(one.name, one.min_isolation, canonical(one.scoring())): one for one in bounds}.values())


def _forget(folder: RunFolder) -> None:
    """Remove cells that the plan does not have, and reports of an older one."""
    kept = {cell.cell for cell in folder.info.cells}
    for entry in (folder.path / "cells").glob("*"):
        if entry.name not in kept:
            shutil.rmtree(entry, ignore_errors=True)
    shutil.rmtree(folder.path / "reports", ignore_errors=True)
