"""What a run says: records and items as data frames, tables, plots and comparisons. Reads the run's folder alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.store import RunFolder

if TYPE_CHECKING:
    import pandas as pd

    from reports.api import Run as Evidence
    from reports.shown import ShownFigure, ShownTable


class View:
    """A run to look at. In a notebook it shows its comparison."""

    def __init__(self, path: Path, folder: RunFolder) -> None:
        self.path = path
        self.folder = folder

    def _evidence(self) -> Evidence:
        from reports.api import Run

        return Run(RunFolder.open(self.path))

    def records(self) -> pd.DataFrame:
        """One row a cell: `method`, `task`, `seed`, `variant`, `status`, `value` of its `primary` metric, then all
        other facts as dotted columns (`metrics.acc.value`, `cost.seconds.fit`, `routing.entropy`, ...).

        Values are fractions (0 to 1) unless a metric's `unit` says otherwise.

        Raises:
            StoreError: something stored is damaged.
        """
        from reports.frames import tidy_records

        evidence = self._evidence()
        return tidy_records(evidence.records, evidence.variants)

    def items(self, task: str | None = None) -> pd.DataFrame:
        """One row an item and method (and seed): prompt, choices, outputs, log-likelihoods, gold, prediction, metrics.

        Args:
            task: as it stands in the run; all of them by default.

        Raises:
            StoreError: something stored is damaged.
            UnknownName: the run has no such task.
        """
        from reports.frames import tidy_items
        from results.ground.names import unknown

        evidence = self._evidence()
        known = dict.fromkeys(record.spec.task for record in evidence.records)
        if task is not None and task not in known:
            raise unknown("task of this run", task, known)
        records = [record for record in evidence.records if task in (None, record.spec.task)]
        return tidy_items(records, evidence.items)

    def table(
        self,
        name: str = "comparison",
        *,
        against: str | None = None,
        metric: str | None = None,
        margin: float | None = None,
    ) -> ShownTable:
        """The comparison, a table of the paper (`t2`, ...) or the `reproduction` of its claims.

        Args:
            against, metric, margin: of the comparison; as for `compare`.

        Raises:
            ReportError: there is no such table, nothing is finished yet, or a metric for another table.
            UnknownName: a method or metric that the run does not have.
        """
        from methods import registry
        from reports.api import ReportError, build_report
        from reports.panel import asked
        from reports.shown import ShownTable
        from reports.tables import Table

        made = build_report(self._evidence(), name, registry.names(), asked=asked(against, metric, margin))
        if not isinstance(made, Table):
            raise ReportError(f"{name} is a figure: use plot({name!r}).")
        return ShownTable(made)

    def report(
        self,
        table: str = "comparison",
        formats: Sequence[str] = ("latex", "md", "csv"),
        *,
        against: str | None = None,
        metric: str | None = None,
        margin: float | None = None,
        **options: Any,
    ) -> list[Path]:
        """Write a table or figure to the run's folder `reports/`, as `harness report` does.

        Args:
            table: as for `table` and `plot`.
            formats: of `latex`, `md`, `csv`, `text`, `html`, `lm-eval`.
            against, metric, margin: of the comparison; as for `compare`.
            options: fields of `reports.render.TableOptions`: `wide`, `bare`, `cost`, `notes`, `label`, `caption`,
                `rename`, `columns`.

        Returns:
            The files written.

        Raises:
            ReportError: nothing is finished yet, or the options contradict each other.
            UnknownName: an unknown table, format, row, column or option, or a method or metric that is not in the run.
        """
        from dataclasses import fields

        from methods import registry
        from reports.api import render
        from reports.panel import asked
        from reports.render import TableOptions
        from results.ground.names import unknown

        known = [field.name for field in fields(TableOptions)]
        if strange := [name for name in options if name not in known]:
            raise unknown("option of a table", strange[0], known)
        if options.get("columns") is not None:
            options["columns"] = tuple(options["columns"])
        shown, question = TableOptions(**options), asked(against, metric, margin)
        return render(self.path, table, formats, registry.names(), options=shown, asked=question)

    def plot(self, name: str = "load", *, metric: str | None = None) -> ShownFigure:
        """A picture of the run's page (`pareto`, `load`, `load-by-task`, `entropy`, `balance`), a figure of the paper
        (`f4`, ...) or an ablation.

        Args:
            metric: of `pareto` and `f5`, in place of each task's own, e.g. `gold_logprob`.

        Raises:
            ReportError: there is no such figure, nothing is finished yet, or a metric for another figure.
            UnknownName: a metric that the run does not have.
        """
        from methods import registry
        from reports.api import ReportError, build_report
        from reports.panel import asked
        from reports.plots.figure import Figure
        from reports.shown import ShownFigure

        made = build_report(self._evidence(), name, registry.names(), asked=asked(metric=metric))
        if not isinstance(made, Figure):
            raise ReportError(f"{name} is a table: use table({name!r}).")
        return ShownFigure(made)

    def compare(
        self, *methods: str, against: str | None = None, metric: str | None = None, margin: float | None = None
    ) -> ShownTable:
        """Paired tests between methods over items and seeds, corrected for their number; all methods by default.

        Args:
            methods: tested together, the first against the others.
            against: the method that is compared with each other one, or `all` for every pair.
            metric: instead of each task's own, e.g. `gold_logprob`.
            margin: difference that counts as none, in points for fractions; 1 by default.

        Raises:
            ReportError: fewer than two methods, or a margin that is no positive number.
            UnknownName: a method or metric that the run does not have.
        """
        from reports.api import compared
        from reports.panel import asked
        from reports.shown import ShownTable

        return ShownTable(compared(self._evidence(), list(methods) or None, asked(against, metric, margin)))

    def __repr__(self) -> str:
        info = self.folder.info
        methods, tasks = (dict.fromkeys(getattr(cell, key) for cell in info.cells) for key in ("method", "task"))
        return f"<run {self.path}: {len(info.cells)} cells, {', '.join(methods)} on {', '.join(tasks)}>"

    def _repr_html_(self) -> str | None:
        if not any(record.status == "done" for record in self.folder.records()):
            return None
        return self.table()._repr_html_()
