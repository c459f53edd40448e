"""Which records of a run belong to an entry, and under which column they stand."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from reports.catalogue.model import Entry, moves
from reports.scores import flat
from results.schema import Record

Variants = Mapping[str, Collection[str]]
"""Labels that planned cells carry, by cell (see `PlannedCell.variant`)."""


def select(entry: Entry, records: Sequence[Record], variants: Variants) -> list[Record]:
    """Records of the entry's methods on its tasks, renamed to the entry's column names.

    Where cells of the run were planned for this entry only those count; elsewhere those that no other entry claims.
    """
    claimed = _claimed(entry.name, records, variants)
    found = []
    for record in records:
        if record.spec.method not in entry.methods or record.cell not in claimed:
            continue
        column = next((task for task in entry.tasks if column_fits(task, record)), None)
        if column is not None:
            found.append(_renamed(record, column))
    return found


def as_planned(entry: Entry, records: Sequence[Record], variants: Variants) -> Entry:
    """The entry with the methods and tasks that cells were planned for in its name beside its own.

    `harness ablate rank --methods mole` measures what the paper did not; the rows have nothing published beside them.
    """
    own = [r for r in records if any(label.split(":")[0] == entry.name for label in variants.get(r.cell, ()))]
    more = dict.fromkeys(r.spec.method for r in own if not moves(r.spec.method))
    columns = dict.fromkeys(r.spec.task for r in own if not any(column_fits(task, r) for task in entry.tasks))
    known = {*entry.methods, *entry.scaled_methods}
    methods = (*entry.methods, *(method for method in more if method not in known))
    return entry.model_copy(update={"methods": methods, "tasks": (*entry.tasks, *columns)})


def by_axis(entry: Entry, records: Sequence[Record], variants: Variants) -> dict[int, list[Record]]:
    """The entry's records by the value of its axis, ascending: from the planned label, or from the record."""
    assert entry.axis is not None
    found: dict[int, list[Record]] = {}
    for record in select(entry, records, variants):
        prefix = f"{entry.name}:{entry.axis.name}="
        labels = [label.removeprefix(prefix) for label in variants.get(record.cell, ()) if label.startswith(prefix)]
        if not labels and entry.axis.where:
            value = flat(record.spec.model_dump(mode="json")).get(entry.axis.where)
            labels = [] if value is None else [str(value)]
        for label in labels:
            found.setdefault(int(label), []).append(record)
    return dict(sorted(found.items()))


def column_fits(column: str, record: Record) -> bool:
    """Whether a record's task is this column: equal names, and equal shots where the column names them."""
    if record.spec.task == column:
        return True
    name, _, shots = column.partition("@")
    if record.spec.task_name != name:
        return False
    return not shots or record.spec.task_config.get("shots") == int(shots.removesuffix("-shot"))


def _claimed(name: str, records: Sequence[Record], variants: Variants) -> set[str]:
    own = {
        record.cell for record in records if any(label.split(":")[0] == name for label in variants.get(record.cell, ()))
    }
    return own or {record.cell for record in records if not any(variants.get(record.cell, ()))}


def _renamed(record: Record, column: str) -> Record:
    if record.spec.task == column:
        return record
    return record.model_copy(update={"spec": record.spec.model_copy(update={"task": column})})
