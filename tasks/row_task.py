"""Tasks whose rows come from a source: reading, identifying, dividing. Prompts and scores are for subclasses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from results.ground.digest import canonical_row, row_digest, text_sha256
from tasks.base import PARTS, Doc, Part, Task, TaskUnavailable
from tasks.card import TaskCard
from tasks.groups import clusters, link, overlaps
from tasks.parts import KeyedDoc, make_parts
from tasks.rows import BadRow, Fault, column_fault
from tasks.sources.base import DatasetRef, Row, Source, SourceError
from tasks.sources.mixed import source_of
from tasks.wording import normalised

_IN_WORDS = {
    "bundled": "--data bundled",
    "dir": "--data DIR with {folder}",
    "hub": "--data hub ({hub_id})",
    "file": "its own file",
}


@dataclass(frozen=True)
class LoadedRows:
    """The rows of a task, divided.

    `split_rows` counts what was found in each official split that was read. `shown` are the rows that few-shot examples
    are drawn from where these are not the expert-train part. `groups` names the group of every evaluated row that
    shares something with another one.
    """

    parts: Mapping[Part, Sequence[Doc]]
    origin: str
    fingerprint: str
    deviations: tuple[str, ...]
    split_rows: Mapping[str, int]
    shown: Sequence[Doc] | None = None
    groups: Mapping[str, str] = field(default_factory=dict)

    @property
    def examples(self) -> Sequence[Doc]:
        """The rows that few-shot examples are drawn from."""
        return self.parts["expert-train"] if self.shown is None else self.shown


class RowTask(Task):
    """A task described by a card. Subclasses may say how its rows are divided, read and identified."""

    def __init__(self, card: TaskCard) -> None:
        self.card = card
        self.name = card.name
        self.expert = card.expert
        self.version = f"{card.lm_eval.version if card.lm_eval else 'own'}/{card.version}"

    def sources(self) -> Sequence[str]:
        """Kinds of source that have it, in words for the user."""
        folder = f"{self.card.set}/{self.card.config}"
        return [_IN_WORDS[kind].format(folder=folder, hub_id=self.card.hub_id) for kind in self.card.sources]

    def check(self, source: Source) -> None:
        """Make sure that the source has at least one of the task's splits, without reading any."""
        source = source_of(source, self.card.dataset)
        if not self._available(source):
            raise TaskUnavailable(
                f"The task {self.name} is not in {source.describe()}: it is available with "
                f"{' or '.join(self.sources())}."
            )

    def read_splits(self, source: Source) -> dict[str, list[Row]]:
        """Rows of the official splits that the source has, by split. Override it where a source divides otherwise."""
        return {split: source.rows(self.card.dataset, split) for split in self._available(source)}

    def canonical(self, row: Row) -> Row:
        """The row in the card's columns. Override it where sources name columns differently."""
        return row

    def fault(self, row: Row) -> Fault | None:
        """What is wrong with columns taken together (a gold label that is none of the options), or None.

        Called for every row whose columns are each of their kind (`values` on the card). Override it where they depend
        on each other.
        """
        return None

    def item_id(self, row: Row, content: str) -> str:
        """The row's id: the card's id column, or a hash of the content."""
        return str(row[self.card.id_column]) if self.card.id_column else content

    def input_text(self, row: Row) -> str:
        """What makes two rows the same question, normalised."""
        return normalised([row[column] for column in self.card.inputs])

    def links(self, row: Row) -> tuple[str, ...]:
        """What the row may share with others, by the card's `group_by`; a text counts whichever column it stands in."""
        return tuple(dict.fromkeys(filter(None, (link(row[column]) for column in self.card.group_by))))

    def divide(self, splits: Mapping[str, Sequence[KeyedDoc]]) -> tuple[dict[Part, list[Doc]], list[str]]:
        """The four parts, and sentences about what the official splits did not give."""
        if self.only_evaluated:
            every = [keyed.doc for rows in splits.values() for keyed in rows]
            return {part: every if part == "eval" else [] for part in PARTS}, []
        return make_parts(splits, self.card.roles)

    def load(self, source: Source) -> LoadedRows:
        """Read, identify and divide the rows.

        Raises:
            TaskUnavailable: the source has none of the splits.
            SourceError: rows cannot be read, a split is empty, or nothing is left to evaluate.
            BadRow: a row lacks a column or holds a value that cannot be meant.
        """
        return self._loaded(source, None)

    def load_for_training(self, source: Source) -> LoadedRows:
        """`load`, but what cannot be used of the evaluated split is left out where other splits train.

        Nothing learns from these rows, so damage in them is no reason not to train for other tasks' sake.

        Raises:
            SourceError: see `load`, of the splits that train.
        """
        return self._loaded(source, self.card.roles.eval)

    def _loaded(self, source: Source, spared: str | None) -> LoadedRows:
        source = source_of(source, self.card.dataset)
        self.check(source)
        keeps = getattr(source, "kept", None)
        kept = keeps(self.card.dataset) if keeps is not None else None
        if kept is None:
            return self._found(source, spared)
        key = (type(self), self.card.model_dump_json(), spared)
        if key not in kept:
            kept[key] = self._found(source, spared)
        rows: LoadedRows = kept[key]
        return rows

    def _found(self, source: Source, spared: str | None) -> LoadedRows:
        keeper = getattr(source, "keeper", None)
        return self._read(source, spared) if keeper is None else keeper.of(self, source, spared, self._read)

    def _read(self, source: Source, spared: str | None) -> LoadedRows:
        if spared is not None and len(self._available(source)) > 1:
            source = _Sparing(source, spared)
        splits: dict[str, list[KeyedDoc]] = {}
        deviations: list[str] = []
        seen: dict[str, int] = {}
        read = self.read_splits(source)
        for split, rows in read.items():
            spare = split == spared and len(read) > 1
            if not rows and not spare:
                # Another split in its place would be another benchmark under this one's name.
                raise SourceError(
                    f"The split {split} of {self.name} in {source.describe()} is empty: give its rows, or take it away."
                )
            splits[split] = list(self._keyed(rows, split, seen, source, spare=spare))
            official = self.card.splits.get(split)
            if official is not None and official != len(rows):
                deviations.append(f"{split}: {len(rows)} of {official} official rows.")
        parts, notes = self.divide(splits)
        if not parts["eval"] and (spared is None or not parts["expert-train"]):
            raise SourceError(f"The rows of {self.name} in {source.describe()} leave none to evaluate: give more rows.")
        links = {keyed.doc.id: keyed.links or (keyed.key,) for rows in splits.values() for keyed in rows}
        return LoadedRows(
            parts=parts,
            origin=source.origin(self.card.dataset),
            fingerprint=fingerprint(parts),
            deviations=(*deviations, *notes, *overlaps(parts, links, self.card.group_by)),
            split_rows={split: len(rows) for split, rows in splits.items()},
            groups=clusters(parts["eval"], links),
        )

    def _checked(self, raw: Row) -> tuple[Row, Fault | None]:
        """The row in the card's columns, and what is wrong with it."""
        try:
            row = self.canonical(raw)
            return row, column_fault(row, self.card.columns, self.card.values) or self.fault(row)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError) as error:
            return raw, _unreadable(raw, error)

    def _available(self, source: Source) -> list[str]:
        roles = self.card.roles
        names = [name for name in (roles.eval, roles.dev, roles.train) if name is not None]
        return [name for name in names if source.has(self.card.dataset, name)]

    def _keyed(
        self, rows: Sequence[Row], split: str, seen: dict[str, int], source: Source, *, spare: bool
    ) -> Iterator[KeyedDoc]:
        dataset, where = f"{self.card.set}/{self.card.config}", source.describe()
        for number, raw in enumerate(rows, start=1):
            row, fault = self._checked(raw)
            if fault is not None and spare:
                continue
            if fault is not None:
                raise BadRow(self.name, dataset, split, number, where, fault)
            name = self.item_id(row, row_digest({column: row[column] for column in self.card.columns}))
            seen[name] = seen.get(name, 0) + 1
            if seen[name] > 1:
                name = f"{name}~{seen[name]}"
            yield KeyedDoc(Doc(name, row), self.input_text(row), self.links(row))


class _Sparing:
    """A source of which one split counts as empty where it cannot be read."""

    def __init__(self, source: Source, split: str) -> None:
        self.kind, self.split, self._source = source.kind, split, source
        self.describe, self.has, self.origin = source.describe, source.has, source.origin

    def rows(self, dataset: DatasetRef, split: str) -> list[Row]:
        try:
            return self._source.rows(dataset, split)
        except SourceError:
            if split != self.split:
                raise
            return []


def _unreadable(raw: Row, error: Exception) -> Fault:
    return "fields", sorted(map(str, raw)), f"rows in the published layout ({type(error).__name__}: {error})"


def fingerprint(parts: Mapping[Part, Sequence[Doc]]) -> str:
    """Hash over part, id and content of every row; the order of rows doesn't count."""
    rows: list[str] = []
    for part in PARTS:
        rows += sorted(canonical_row([part, doc.id, doc.row]) for doc in parts[part])
    return text_sha256("\n".join(rows))[:16]


def chosen(docs: Sequence[Doc], order: Any, limit: int | None) -> list[Doc]:
    """The first `limit` rows by `order(id)`: fewer items are always a subset of more."""
    ranked = sorted(docs, key=lambda doc: (order(doc.id), doc.id))
    return ranked if limit is None else ranked[:limit]
