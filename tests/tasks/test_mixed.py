"""Several sources in one run: a named set comes from its own, every other from the rest."""

from __future__ import annotations

from typing import Any

from tasks.sources.base import DatasetRef
from tasks.sources.mixed import MixedSource, source_of


class Told:
    """A source that says who it is."""

    kind = "folder"

    def __init__(self, name: str) -> None:
        self.name = name

    def describe(self) -> str:
        return self.name

    def has(self, dataset: DatasetRef, split: str) -> bool:
        return split == self.name

    def rows(self, dataset: DatasetRef, split: str) -> list[dict[str, Any]]:
        return [{"from": self.name, "set": dataset.set, "split": split}]

    def origin(self, dataset: DatasetRef) -> str:
        return f"{self.name}/{dataset.set}"


def test_each_set_comes_from_its_source() -> None:
    rest, own = Told("bundled"), Told("there")
    mixed = MixedSource(rest, {"quiz": own})  # type: ignore[arg-type, dict-item]
    quiz, other = DatasetRef("quiz", "main"), DatasetRef("arc", "main")
    assert mixed.describe() == "bundled; quiz from there"
    assert (mixed.origin(quiz), mixed.origin(other)) == ("there/quiz", "bundled/arc")
    assert mixed.rows(quiz, "test") == [{"from": "there", "set": "quiz", "split": "test"}]
    assert (mixed.has(quiz, "there"), mixed.has(other, "there")) == (True, False)
    assert (source_of(mixed, quiz), source_of(mixed, other), source_of(own, other)) == (own, rest, own)  # type: ignore[arg-type]
