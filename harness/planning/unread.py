"""What stands in a refused cell for a task whose rows cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from results.ground.digest import digest
from tasks.base import PARTS, BoundTask, Doc, Example, Request, ScoredItem, TaskSettings
from tasks.sources import Source
from tasks.sources.base import SourceError
from tasks.sources.mixed import source_of


class UnreadTask(BoundTask):
    """Names a task and holds no rows. Whoever asks for more than the record of a refused cell gets the sentence.

    Its fingerprint follows from what is wrong: mended rows make another cell, which takes the place of this one.
    """

    def __init__(self, name: str, source: Source, settings: TaskSettings, error: SourceError) -> None:
        """Args:
        name: of a registered task.
        source: that its rows were asked of.
        settings: that it would have been joined under.
        error: why it could not be.
        """
        from tasks import registry

        card, task = registry.card(name), registry.create(name)
        self.name, self.version, self.error = name, task.version, error
        shots = card.shots if settings.shots is None else settings.shots
        self.settings = settings.model_copy(update={"shots": shots})
        self.parts = dict.fromkeys(PARTS, ())
        self.primary, self.metrics, self.generative = card.primary, (), card.generative
        self.source, self.origin = source_of(source, card.dataset).kind, f"{card.set}/{card.config}"
        self.fingerprint = digest(["unread", str(error)])
        self.deviations = [str(error)]
        self.official_rows = card.splits
        self._levels = (card.chance or 0.0, card.majority)

    def with_settings(self, settings: TaskSettings) -> BoundTask:
        """No rows, so none under other settings."""
        self._refuse()

    def eval_docs(self) -> Sequence[Doc]:
        """None."""
        return ()

    def example(self, doc: Doc) -> Example:
        """None."""
        self._refuse()

    def requests(self, doc: Doc, seed: int) -> list[Request]:
        """None."""
        self._refuse()

    def gold_request(self, doc: Doc, seed: int) -> Request | None:
        """None."""
        self._refuse()

    def score(self, doc: Doc, outputs: Sequence[Any]) -> ScoredItem:
        """Nothing to score."""
        self._refuse()

    def aggregate(self, items: Sequence[ScoredItem]) -> dict[str, tuple[float, int]]:
        """No metric has a value."""
        return {}

    def chance(self) -> float:
        """The card's, of the published rows."""
        return self._levels[0]

    def majority(self) -> float | None:
        """The card's, of the published rows."""
        return self._levels[1]

    def _refuse(self) -> NoReturn:
        raise self.error
