"""The other side of evaluation benchmarks: lm-evaluation-harness's own Hugging Face model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.bench.measure import Options, WorkCounter, by_turns, timed

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from harness.models import BaseModel
    from tasks.base import Request


def instances(requests: Sequence[Request]) -> list[Instance]:
    """The same model calls as lm-eval knows them; both sides get these."""
    from lm_eval.api.instance import Instance

    made = []
    for i, request in enumerate(requests):
        prompt = request.prefix + request.context
        if request.kind == "loglikelihood":
            made.append(Instance("loglikelihood", {}, (prompt, request.continuation), i))
        else:
            settings = {"until": list(request.until), "max_gen_toks": request.max_new_tokens, "do_sample": False}
            made.append(Instance("generate_until", {}, (prompt, settings), i))
    return made


def hflm(base: BaseModel, batch_size: int) -> Any:
    """HFLM around the loaded model."""
    from lm_eval.models.huggingface import HFLM

    with quiet():
        return HFLM(pretrained=base.model, tokenizer=base.tokenizer, batch_size=batch_size)


@contextmanager
def quiet() -> Iterator[None]:
    """Without lm-eval's remarks about models that are already loaded."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def fastest(base: BaseModel, method: str, asked: Sequence[Instance], options: Options) -> int:
    """The batch size with which HFLM does a sample of the requests fastest; the only one, where there is one."""
    batches = options.peer_batches
    if len(batches) == 1:
        return batches[0]
    sample = list(asked)[: max(2 * max(batches), len(asked) // 8)]
    seconds = {}
    for batch in batches:
        lm = hflm(base, batch)
        with quiet():
            seconds[batch], _ = timed(lambda lm=lm: getattr(lm, method)(sample, disable_tqdm=True), options.clock)  # type: ignore[misc]
    return min(seconds, key=lambda batch: seconds[batch])


@dataclass
class Duel:
    """Both sides' seconds, results, and the ratio of their arithmetic (theirs over ours)."""

    seconds: list[float]
    peer_seconds: list[float]
    limit: float
    ours: list[Any]
    theirs: list[Any]


def duel(base: BaseModel, lm: Any, batch: int, method: str, asked: Sequence[Instance], options: Options) -> Duel:
    """`lm` against HFLM with that batch size on the same instances, by turns."""
    peer = hflm(base, batch)
    results: dict[str, list[Any]] = {}
    work: dict[str, int] = {}
    counter = WorkCounter(base.model)

    def side(name: str, model: Any) -> None:
        counter.take()
        with quiet():
            results[name] = getattr(model, method)(list(asked), disable_tqdm=True)
        work[name] = counter.take()

    try:
        seconds, peer_seconds = by_turns(lambda: side("ours", lm), lambda: side("theirs", peer), options)
    finally:
        counter.remove()
    return Duel(seconds, peer_seconds, work["theirs"] / work["ours"], results["ours"], results["theirs"])
