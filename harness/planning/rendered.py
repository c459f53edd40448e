"""What a model is asked, as a digest: prompts change with templates, cards and libraries while their rows stay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from results.ground.digest import digest

if TYPE_CHECKING:
    from tasks.base import BoundTask, Request

SAMPLED_ITEMS = 8


def rendered(items: Iterable[Sequence[Request]]) -> str:
    """Digest of the requests of some items, every field and letter of them."""
    return digest([[astuple(request) for request in own] for own in items])


@dataclass(frozen=True)
class Sample:
    """Requests of a few evenly spaced items of a task: quick enough for a plan.

    Attributes:
        items: the requests of each sampled item.
        share: how many items of the task each of them stands for.
    """

    items: tuple[Sequence[Request], ...]
    share: float

    @property
    def requests(self) -> Iterable[Request]:
        """Of all sampled items."""
        return (request for own in self.items for request in own)

    @cached_property
    def digest(self) -> str:
        """See `rendered`."""
        return rendered(self.items)

    @cached_property
    def generated(self) -> float:
        """Tokens that the task's items may be answered with, at most."""
        return self.share * sum(request.max_new_tokens * request.samples for request in self.requests)

    @cached_property
    def answers(self) -> float:
        """Requests of the task's items."""
        return self.share * sum(len(own) for own in self.items)

    @cached_property
    def texts(self) -> float:
        """Letters of the task's requests, each written out: context and continuation."""
        return self.share * sum(len(request.context) + len(request.continuation) for request in self.requests)

    @cached_property
    def read(self) -> float:
        """Letters that a model reads where it reads what requests share once: an item's context, and the prefix."""
        contexts = sum(len(own[0].context) + sum(len(one.continuation) for one in own) for own in self.items)
        return self.share * contexts + (len(self.items[0][0].prefix) if self.items else 0)


_SAMPLES: WeakKeyDictionary[BoundTask, dict[int, Sample]] = WeakKeyDictionary()


def sample(task: BoundTask, seed: int) -> Sample:
    """What a task asks under a seed, drawn once: hundreds of cells share it."""
    samples = _SAMPLES.setdefault(task, {})
    if seed not in samples:
        docs = task.eval_docs()
        some = docs[:: max(1, len(docs) // SAMPLED_ITEMS)][:SAMPLED_ITEMS]
        items = tuple(task.requests(doc, seed) for doc in some)
        samples[seed] = Sample(items, len(docs) / max(len(items), 1))
    return samples[seed]
