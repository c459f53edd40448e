"""What a model is asked, as a digest: prompts change with templates, cards and libraries while their rows stay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING

from results.ground.digest import digest

if TYPE_CHECKING:
    from tasks.base import BoundTask, Request

SAMPLED_ITEMS = 8


def rendered(items: Iterable[Sequence[Request]]) -> str:
    """Digest of the requests of some items, every field and letter of them."""
    return digest([[astuple(request) for request in own] for own in items])


def sampled(task: BoundTask, seed: int) -> str:
    """The same of a few evenly spaced items of a task: quick enough for a plan."""
    docs = task.eval_docs()
    sample = docs[:: max(1, len(docs) // SAMPLED_ITEMS)][:SAMPLED_ITEMS]
    return rendered(task.requests(doc, seed) for doc in sample)
