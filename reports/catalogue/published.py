"""The paper's values as panels of their own: beside the measured ones, never among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reports.catalogue.model import Entry
from reports.ranking import MEAN
from reports.tables import Cell, Column, Footnotes, Note, Panel, Row, Table

SOURCE = "arXiv 2507.00029v2"
NOTE = Note(
    f"Published values ({SOURCE}) stand in panels of their own: they come without intervals or items, so they are "
    "neither marked nor tested.",
    short="Published values come without items: neither marked nor tested.",
)
MODELS = {
    "falcon-mamba-7b": "Falcon-Mamba-7B",
    "mistral-7b": "Mistral-7B",
    "llama3-8b": "LLaMA-3-8B",
    "llama2-7b": "LLaMA-2-7B",
    "flan-t5-large": "Flan-T5-large",
}


OUTCOMES = {"humaneval": 3 * 164}
"""Tasks of few items, with the answers behind a published value at most: three runs over the whole test set.

With two decimals only these can be told apart from what no count gives; the other sets are too large, or their size in
the paper is not known.
"""


def attainable(value: float, outcomes: int) -> bool:
    """Whether a percentage with two decimals is that of some number of right answers among so many."""
    near = round(value * outcomes / 100)
    return any(round(100 * right / outcomes, 2) == round(value, 2) for right in (near - 1, near, near + 1))


def panels(
    entry: Entry,
    columns: Sequence[Column],
    models: Sequence[str] = (),
    mean_of: Sequence[str] = (),
    footnotes: Footnotes | None = None,
) -> tuple[Panel, ...]:
    """Published blocks of a table, in its own column order; those of the measured models where it has some.

    Args:
        columns: of the measured table; those that the paper lacks stay empty.
        models: names of the measured base models.
        mean_of: columns that the mean is over; all by default.
        footnotes: of the table, to which a word is added about values that no number of right answers gives.
    """
    footnotes = Footnotes() if footnotes is None else footnotes
    blocks = entry.paper.get("blocks", {})
    places = [str(place) for place in entry.paper.get("columns", [])]
    chosen = {name: rows for name, rows in blocks.items() if any(_same(name, model) for model in models)} or blocks
    found = []
    for name, rows in chosen.items():
        lines = tuple(
            _row(method, dict(zip(places, values, strict=True)), columns, mean_of or places, footnotes)
            for method, values in rows.items()
        )
        title = f"Published for {MODELS.get(name, name)} ({SOURCE}), not measured here"
        found.append(Panel(f"published/{name}", title, lines))
    return tuple(found)


def beside(table: Table, entry: Entry, models: Sequence[str] = (), mean_of: Sequence[str] = ()) -> Table:
    """The table with the published panels under the measured ones; see `panels`."""
    footnotes = Footnotes(table.footnotes)
    extra = panels(entry, table.columns, models, mean_of, footnotes)
    notes = (*table.notes, NOTE) if extra else table.notes
    return replace(table, panels=(*table.panels, *extra), notes=notes, footnotes=footnotes.texts())


def under_measured(table: Table) -> Table:
    """The table with panels that say that they were measured, since published ones follow."""
    measured = tuple(
        replace(panel, title=f"Measured. {panel.title}" if panel.title else "Measured") for panel in table.panels
    )
    return replace(table, panels=measured)


def _row(
    method: str,
    values: dict[str, float | None],
    columns: Sequence[Column],
    mean_of: Sequence[str],
    footnotes: Footnotes,
) -> Row:
    cells = {column.key: cell(values[column.key]) for column in columns if column.key in values}
    for key, outcomes in OUTCOMES.items():
        value = values.get(key)
        if key in cells and value is not None and not attainable(value, outcomes):
            text = (
                f"No number of right answers gives this value: neither of {outcomes // 3} problems nor of three runs."
            )
            cells[key] = replace(cells[key], footnotes=(footnotes.key(text),))
    numbers = [value for place in mean_of if (value := values.get(place)) is not None]
    if any(column.key == MEAN for column in columns) and len(numbers) == len(mean_of) > 1:
        cells[MEAN] = Cell(sum(numbers) / len(numbers))
    return Row(f"published/{method}", method, cells, "paper")


def cell(value: float | None) -> Cell:
    """A published number, with the decimals that it was published with."""
    return Cell() if value is None else Cell(value, text=str(value) if value < 10 else f"{value:.2f}")


def _same(block: str, model: str) -> bool:
    """Whether a published block is about a measured model: the parts of its name occur in the model's."""
    squeezed = model.lower().replace("-", "").replace("_", "").replace("meta", "")
    return all(part in squeezed for part in block.split("-"))
