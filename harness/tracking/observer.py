"""Between the engine and a tracker: what is worth telling, in which form, and that a tracker never ends a run."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from harness.tracking.tracker import Outcome, Rows, Tracker, Untracked
from results.ground.digest import digest
from results.schema import Record
from results.store import RunFolder


class Observer:
    """Tells a tracker about a run as it goes on. The first failure of the tracker is one warning, and its last word.

    Args:
        tracker: default none.
        name: of the tracker, for the warning.
    """

    def __init__(self, tracker: Tracker | None = None, name: str = "") -> None:
        self._tracker: Tracker = tracker or Untracked()
        self._name = name
        self._curves: dict[str, str] = {}
        self._failed = False

    @contextlib.contextmanager
    def following(self, folder: RunFolder) -> Iterator[None]:
        """A tracked run as long as the block: what the folder holds already comes first, the comparison last."""
        self._tell("begin", lambda tracker: tracker.begin(folder.info))
        for record in folder.records():
            if record.status == "done":
                self.cell(record)
        try:
            yield
        except BaseException as error:
            self._end("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise
        records = folder.records()
        if any(record.status == "done" for record in records):
            self._tell("table", lambda tracker: tracker.table(comparison_rows(folder.path)))
        self._end("failed" if any(record.status == "failed" for record in records) else "finished")

    def expert(self, meta: Mapping[str, Any]) -> None:
        """An expert was trained: its losses.

        Args:
            meta: of its stage: `expert`, `seed`, `log`.
        """
        self._curve(f"expert/{meta['expert']}/seed {meta['seed']}", meta["log"])

    def fit(self, method: str, seed: int, log: Sequence[Mapping[str, Any]], task: str | None = None) -> None:
        """A method was fitted: its losses, each phase by itself.

        Args:
            method: display name.
            log: of the fit: `step`, loss terms, learning rates and, with several phases, `phase`.
            task: for methods that are fitted for each task.
        """
        place = f"fit/{method}/{task}/seed {seed}" if task else f"fit/{method}/seed {seed}"
        phases: dict[str, list[Mapping[str, Any]]] = {}
        for entry in log:
            phases.setdefault(str(entry.get("phase", "")), []).append(entry)
        for phase, entries in phases.items():
            self._curve(f"{place}/{phase}" if len(phases) > 1 else place, entries)

    def cell(self, record: Record) -> None:
        """A cell has a record: its metrics and costs, and the losses of its fit unless they were told before.

        Of a failed cell only that it failed is told; a refused one says nothing.
        """
        if record.status == "refused":
            return
        spec = record.spec
        name = f"cell/{spec.task}/{spec.method}/seed {spec.seed}"
        if record.status == "failed":
            self._tell("values", lambda tracker: tracker.values(name, {"failed": 1.0}))
            return
        self.fit(spec.method, spec.seed, record.training_log)
        numbers = {key: metric.value for key, metric in record.metrics.items()}
        numbers |= {f"seconds {phase}": value for phase, value in record.cost.seconds.items()}
        numbers |= {f"tokens {phase}": float(value) for phase, value in record.cost.tokens.items()}
        numbers |= {f"peak memory {phase}": float(value) for phase, value in record.cost.peak_memory.items()}
        numbers["trained parameters"] = float(sum(record.parameters.trainable.values()))
        numbers["items"] = float(record.n_items)
        numbers["items without a verdict"] = float(record.n_unscored)
        self._tell("values", lambda tracker: tracker.values(name, numbers))

    def _curve(self, name: str, log: Sequence[Mapping[str, Any]]) -> None:
        """Tell one training log, once; another one of the same name (a variant's) gets a number."""
        steps = [(int(entry.get("step", at)), _numbers(entry)) for at, entry in enumerate(log, 1)]
        steps = [(step, numbers) for step, numbers in steps if numbers]
        content = digest([[step, {key: repr(value) for key, value in numbers.items()}] for step, numbers in steps])
        if not steps or content in self._curves:
            return
        taken = sum(known == name for known in self._curves.values())
        self._curves[content] = name
        numbered = f"{name} ({taken + 1})" if taken else name
        self._tell("curve", lambda tracker: tracker.curve(numbered, steps))

    def _end(self, outcome: Outcome) -> None:
        self._tell("end", lambda tracker: tracker.end(outcome))

    def _tell(self, what: str, say: Callable[[Tracker], None]) -> None:
        if self._failed:
            return
        try:
            # Standard output is for the run's table alone.
            with contextlib.redirect_stdout(sys.stderr):
                say(self._tracker)
        except Exception as error:
            self._failed = True
            reason = next(iter(str(error).splitlines()), "")
            typer.echo(
                f"{self._name} is left out from here on: {what} failed ({type(error).__name__}: {reason}); "
                "the run goes on.",
                err=True,
            )
            if what != "end":
                with contextlib.suppress(Exception), contextlib.redirect_stdout(sys.stderr):
                    self._tracker.end("failed")


def _numbers(entry: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of one entry of a training log, nested ones (learning rates by group) with slashes; NaN included."""
    found: dict[str, float] = {}
    for key, value in entry.items():
        if isinstance(value, Mapping):
            found |= {f"{key}/{name}": number for name, number in _numbers(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool) and key != "step":
            found[key] = float(value)
    return found


def comparison_rows(run: Path) -> Rows:
    """The comparison of a run as plain rows."""
    from methods import registry
    from reports import api
    from reports.render import markdown
    from reports.tables import Table

    table = api.build_report(api.Run.open(run), "comparison", registry.names())
    assert isinstance(table, Table)
    lines = [(panel, row, [row.cell(column.key) for column in table.columns]) for panel, row in table.rows()]
    # A column of numbers has gaps, not dashes: trackers plot it.
    numeric = [
        all(cells[at].value is not None or not cells[at].text for _, _, cells in lines)
        for at in range(len(table.columns))
    ]
    rows = [
        [
            panel.title,
            row.label,
            *(cell.value if number else _text(cell) for cell, number in zip(cells, numeric, strict=True)),
        ]
        for panel, row, cells in lines
    ]
    return Rows(
        table.name,
        ["panel", table.row_header, *(column.label for column in table.columns)],
        rows,
        markdown.render(table),
    )


def _text(cell: Any) -> str:
    return cell.text if cell.text is not None else "" if cell.value is None else str(cell.value)
