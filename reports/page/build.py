"""The page: everything about a run in one file that opens without a server."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib import resources
from typing import Any

from reports.labels import labelled, relabelled
from reports.notes import budget_sentence, distinct, model_sentence, tuning_sentences
from reports.page import sections
from reports.page.payload import payload
from reports.plots.draw import svg
from reports.plots.figure import Figure
from reports.render import format as fmt
from reports.scores import Items, placed
from reports.tables import Cell, Table
from results.schema import Record, RunInfo


def page(
    info: RunInfo,
    records: Sequence[Record],
    items: Items,
    comparison: Table,
    differences: Table | None,
    extra: Sequence[Table | Figure] = (),
    against: Sequence[str] = (),
) -> str:
    """One self-contained HTML document.

    Args:
        info: what the run was asked for.
        comparison: the run's main table.
        differences: paired tests between its methods; None with fewer than two.
        extra: tables and figures of the catalogue that were asked for.
        against: the methods that the run sets against the others.
    """
    from jinja2 import Environment

    done = [record for record in records if record.status == "done"]
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(fmt=fmt, sort_key=_sort_key)
    tables = [
        ("comparison", comparison),
        ("tests", differences),
        *((made.name, made) for made in extra if isinstance(made, Table)),
        ("published", sections.beside_published(done, items)),
        ("cost", sections.cost(done, items)),
        ("routing", sections.diagnostics(records)),
    ]
    figures = [made for made in extra if isinstance(made, Figure) and not made.empty()]
    pictures = [*figures, *sections.plots(done, comparison, against)]
    template = environment.from_string(_asset("page.html"))
    return template.render(
        info=info,
        models=distinct(model_sentence(record) for record in done),
        budgets=[budget_sentence(done), *tuning_sentences(done)] if done else [],
        tables=[(key, labelled(table, records)) for key, table in tables if table is not None],
        pictures=[(figure, _data_url(figure)) for figure in (labelled(one, records) for one in pictures)],
        failed=[record for record in placed(relabelled(records)) if record.status != "done"],
        payload=payload(placed(relabelled(records)), items),
        style=_asset("page.css"),
        script=_asset("page.js"),
    )


def _data_url(figure: Figure) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg(figure).encode()).decode()


def _sort_key(cell: Cell) -> Any:
    return "" if cell.value is None else cell.value


def _asset(name: str) -> str:
    return (resources.files("reports.page") / name).read_text(encoding="utf-8")
