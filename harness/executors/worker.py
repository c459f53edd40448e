"""A process of a Ray cluster: it says who it is, sees that it shares the run's folders, and computes units.

Nothing heavy is imported before its environment is set, and nothing but Python's own types is needed to greet: an older
harness must be able to say that it is one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from results.ground.digest import digest, file_sha256
from results.ground.errors import HarnessError

if TYPE_CHECKING:
    from harness.executors.units import Outcome, Units
    from harness.planning.sections import RunConfig

_KINDS = (".py", ".yaml", ".md", ".txt")
_SOURCES = {"harness": _KINDS, "methods": _KINDS, "tasks": _KINDS, "reports": _KINDS, "results": (".py",)}
"""Kinds of files that decide what is computed, by package; in a checkout `results` holds runs as well."""


@dataclass(frozen=True)
class Work:
    """What a process elsewhere needs to take its part in a run: it plans the same cells anew.

    Attributes:
        configs: one for each engine.
        folder: of the run; absolute, like every path here.
        stages: address of the store.
        directory: that paths in configurations are relative to.
        arguments: of the command, for records.
        cells: digest of the cells that are planned (`cells_of`).
        threads: of the process.
    """

    configs: tuple[RunConfig, ...]
    folder: str
    stages: str
    directory: str
    arguments: tuple[str, ...]
    cells: str
    threads: int


def sources() -> str:
    """Digest of the harness's sources in this process: what two machines must have in common."""
    root = Path(__file__).resolve().parent.parent.parent
    files = sorted(
        path for name, kinds in _SOURCES.items() for path in (root / name).rglob("*") if path.suffix in kinds
    )
    return digest([[str(path.relative_to(root)), file_sha256(path)] for path in files], 8)


def token_file(folder: str, token: str, node: str = "") -> Path:
    """Where the machine that starts a run leaves its token in a folder, or a node its answer."""
    return Path(folder) / f".handshake-{token}{'-' if node else ''}{node}"


def greet(folders: Sequence[str], directory: str, token: str, node: str) -> tuple[str, str, str]:
    """Read a token in each folder and answer there.

    Args:
        folders: the stage store and the run's folder.
        directory: to work in.
        token: that is expected.
        node: this one's id.

    Returns:
        The digest of the harness's sources, the first folder that cannot be used or an empty text, and why.
    """
    for folder in folders:
        try:
            if token_file(folder, token).read_text() != token:
                return sources(), folder, "holds another token"
            token_file(folder, token, node).write_text(node)
        except OSError as error:
            return sources(), folder, error.strerror or type(error).__name__
    return sources(), *(("", "") if Path(directory).is_dir() else (directory, "No such directory"))


class Worker:
    """Computes units of one run, the base model loaded once.

    Args:
        work: the run.
        environment: variables of the machine that started it. They come as an argument because Ray writes those of a
            `runtime_env` into its logs.
    """

    def __init__(self, work: Work, environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        # Before torch is imported: it looks once.
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(work.threads)
        self.work = work
        self._units: Units | None = None
        self._settled = ExitStack()

    def start(self) -> tuple[str, str]:
        """Plan the run's cells.

        Returns:
            The node's id, and in one sentence why this process cannot take part, if so.
        """
        import ray

        node = str(ray.get_runtime_context().get_node_id())
        try:
            self._start()
        except HarnessError as error:
            return node, str(error)
        return node, ""

    def _start(self) -> None:
        os.chdir(self.work.directory)
        import torch

        from harness import models
        from harness.engine import Engine
        from harness.executors.local import settled
        from harness.executors.units import Units
        from harness.planning.plan import Plan
        from harness.planning.sources import open_source
        from harness.planning.stores import stage_store
        from results.store import RunFolder

        torch.set_num_threads(self.work.threads)
        models.quiet_libraries()
        for name in dict.fromkeys(config.model.name for config in self.work.configs):
            models.require(name)
        plans = [Plan(config, open_source(config.data)) for config in self.work.configs]
        if cells_of([cell.key for cell in plan.cells] for plan in plans) != self.work.cells:
            raise HarnessError("It plans other cells: its model, data, adapters or packages differ.")
        stages, folder = stage_store(self.work.stages), RunFolder.open(Path(self.work.folder))
        stages.require()
        loaded, arguments = models.LoadedModels(), self.work.arguments
        devices = [models.device_of(config.model) for config in self.work.configs]
        engines = [
            Engine(plan, stages, folder, device, loaded, arguments) for plan, device in zip(plans, devices, strict=True)
        ]
        self._units = Units(engines)
        self._settled.enter_context(settled())

    def compute(self, kind: str, key: str, needs: Sequence[tuple[str, str]], why: str) -> Outcome:
        """See `Units.compute`."""
        assert self._units is not None
        return self._units.compute(kind, key, needs, why)


def cells_of(plans: Iterable[Iterable[str]]) -> str:
    """Digest of the keys of planned cells, plan by plan."""
    return digest([list(keys) for keys in plans])
