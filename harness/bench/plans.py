"""Time of what looks at thousands of cells and computes none: a plan, and with `--run` the report of a run so large."""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.bench.measure import Options, Row, by_turns
from harness.bench.startup import answered, peak
from methods import registry as methods
from results.ground.digest import digest
from results.ground.errors import HarnessError
from results.schema import Item, PlannedCell, RunInfo
from results.store import RunFolder
from tasks import registry as tasks

METHODS = 28
TASKS = 20
SEEDS = 10
WITHOUT = ("crossdomain",)
"""Sets that have to be made first."""


def plans(options: Options) -> Iterator[Row]:
    """`harness run --plan` of 28 methods on every task that the data has, with 1, 3 and 10 seeds and twice as many;
    with `--run`, `harness report` of runs with 1,400, 2,800 and 5,600 cells, each a copy of one of that run's with
    every tenth score turned at random."""
    chosen = _tasks(options.data)
    with tempfile.TemporaryDirectory() as scratch:
        for seeds in (1, 3, SEEDS, 2 * SEEDS):
            cells = METHODS * len(chosen) * seeds
            plan = [
                "run", "--preset", options.preset, "--data", options.data, "--methods", ",".join(_methods()),
                "--tasks", ",".join(chosen), "--seeds", ",".join(map(str, range(seeds))),
                "--output", f"{scratch}/{seeds}", "--plan",
            ]  # fmt: skip
            target = 5.0 if seeds == SEEDS else None
            yield from _timed(f"a plan of {cells:,} cells", plan, target, options, cells)
        for of_each in (5, 10, TASKS) if options.run is not None else ():
            cells = METHODS * of_each * SEEDS
            if options.wants(name := f"a report on {cells:,} cells"):
                folder = _copied(Path(str(options.run)), Path(scratch) / "report", of_each)
                target = 10.0 if of_each == TASKS else None
                yield from _timed(name, ["report", str(folder)], target, options, cells)
                shutil.rmtree(folder)


def draw(rows: list[Row], path: Path) -> None:
    """Seconds and memory by number of cells."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "plans"
    figure, (seconds, memory) = pyplot.subplots(1, 2, figsize=(7.2, 3.2))
    for kind in dict.fromkeys(_kind(row) for row in rows):
        own = [row for row in rows if _kind(row) == kind]
        cells = [row.value for row in own]
        seconds.plot(cells, [row.median for row in own], "o-", label=kind)
        memory.plot(cells, [row.memory for row in own], "o-", label=kind)
    for panel, label in ((seconds, "seconds, start included"), (memory, "GiB at most")):
        panel.set_xlabel("cells")
        panel.set_ylabel(label)
        panel.set_xlim(left=0)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    seconds.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def _kind(row: Row) -> str:
    return "report" if "report" in row.name else "plan"


def _timed(name: str, arguments: list[str], target: float | None, options: Options, cells: int) -> Iterator[Row]:
    if not options.wants(name):
        return
    command = [sys.executable, "-m", "harness.cli", *arguments]
    memory = peak(command)  # files are read into memory, and rows divided, once
    alone = [sys.executable, "-c", "pass"]
    ours, theirs = by_turns(lambda: answered(command), lambda: answered(alone), options)
    yield Row(
        name=name,
        setting="a new process; rows divided before",
        peer="python -c pass",
        seconds=ours,
        peer_seconds=theirs,
        target=target,
        kind="seconds",
        axis="cells",
        value=cells,
        memory=memory,
    )


def _methods() -> list[str]:
    return methods.names()[:METHODS]


def _tasks(data: str) -> list[str]:
    from harness.planning.sources import open_source
    from tasks.base import TaskUnavailable

    source, found = open_source(data), []
    for name in tasks.names():
        if tasks.card(name).set in WITHOUT or name.endswith("-judged"):
            continue
        try:
            tasks.create(name).check(source)
        except TaskUnavailable:
            continue
        found.append(name)
    return found


def _copied(run: Path, folder: Path, of_each: int) -> Path:
    """A run of 28 methods, some tasks and 10 seeds, made of one trained cell of another run, with scores turned.

    Raises:
        HarnessError: that run has no finished cell.
    """
    given = RunFolder.open(run)
    done = [one for one in given.records() if one.status == "done"]
    if not done:
        raise HarnessError(f"Nothing in {run} is finished: name another --run.")
    record = next((one for one in done if one.routing is not None), done[0])
    items, copies = given.items(record.cell), []
    for method in _methods():
        for task in (f"task-{number}" for number in range(of_each)):
            for seed in range(SEEDS):
                changes = {"method": method, "method_name": method, "task": task, "task_name": task, "seed": seed}
                spec = record.spec.model_copy(update=changes)
                copies.append(record.model_copy(update={"spec": spec, "cell": digest(spec)}))
    cells = [PlannedCell(cell=c.cell, method=c.spec.method, task=c.spec.task, seed=c.spec.seed) for c in copies]
    made = RunFolder.create(folder, RunInfo(name="copies", cells=cells))
    # Most of a cell's writing is waiting for the disk.
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda copy: made.write_cell(copy, _turned(items, copy.cell)), copies))
    return folder


def _turned(items: Sequence[Item], cell: str) -> list[Item]:
    drawn = random.Random(cell)
    turned = [item for item in items if drawn.random() < 0.1]
    scores = {item.id: {name: 1 - (value or 0) for name, value in item.metrics.items()} for item in turned}
    return [item.model_copy(update={"metrics": scores.get(item.id, item.metrics)}) for item in items]
