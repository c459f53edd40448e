"""Evaluation of one cell: its requests through the evaluation model, raw outputs out. Scoring comes later."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.bases.placed import computed_on
from harness.checkpoints import Checkpoint, Data
from harness.planning.rendered import rendered
from harness.provenance import peak_memory
from results.ground.errors import NotFinite

if TYPE_CHECKING:
    from harness.evaluation.lm import EvaluationLM
    from harness.models import BaseModel
    from harness.planning.plan import Cell
    from methods.base import Composed
    from tasks.base import Request


class Evaluator:
    """The evaluation model of one composed model, made once for all its tasks: choosing its path costs a probe."""

    def __init__(self, base: BaseModel, composed: Composed, batch_tokens: int | None, seed: int) -> None:
        self.base = base
        self.composed = composed
        self.seed = seed
        self.on_done: Callable[[int, int], None] = lambda done, of: None
        self.limit(batch_tokens)

    def limit(self, batch_tokens: int | None) -> None:
        """Begin anew with at most so many tokens in a forward pass; None for what suits the device."""
        from harness.evaluation.lm import EvaluationLM

        self.lm = EvaluationLM.of(
            self.composed,
            self.base.tokenizer,
            batch_tokens=batch_tokens,
            on_progress=lambda done, of: self.on_done(done, of),
            seed=self.seed,
        )


def evaluated(
    evaluator: Evaluator, cell: Cell, on_done: Callable[[int, int], None], kept: Checkpoint
) -> dict[str, Any]:
    """`evaluate`; where memory does not suffice, in forward passes of half as many tokens, and so on.

    The evaluator keeps to what sufficed, and a note says so. What `kept` holds of an earlier process is not computed
    again.
    """

    def tried(size: int) -> dict[str, Any]:
        if size != evaluator.lm.batch_tokens:
            evaluator.limit(size)
        return evaluate(evaluator, cell, on_done, kept)

    outputs, size, asked = kept.in_less_memory(tried, evaluator.lm.batch_tokens, least=LEAST_TOKENS)
    if size < asked:
        note = f"{cell.spec.method} on {cell.spec.task}: evaluated in passes of {size} tokens, memory was short."
        outputs["notes"] = [*outputs["notes"], note]
    return outputs


LEAST_TOKENS = 16
"""Of a forward pass that is worth a try."""


def evaluate(
    evaluator: Evaluator, cell: Cell, on_done: Callable[[int, int], None], kept: Checkpoint | None = None
) -> dict[str, Any]:
    """Raw outputs of every item of a cell, with what the model did on the way.

    Args:
        evaluator: the composed model's evaluation model.
        cell: names the task, its items and the seed.
        on_done: called with (requests done, requests in all).
        kept: of the evaluation, to go on from.

    Returns:
        JSON data: `items` (id, outputs, gold log-likelihood), `requests` (their digest), `routing`, `parameters`,
        `passes`, `tokens`, `truncated`, `path` (`shared` or `plain`, with the reason), the method's `notes`,
        `peak_memory_bytes`.

    Raises:
        NotFinite: a likelihood, or a next token's probability, is not finite.
    """
    bound = cell.task.bound
    docs = bound.eval_docs()
    requests = [bound.requests(doc, cell.seed) for doc in docs]
    composed, lm = evaluator.composed, evaluator.lm
    tokens, truncated = dict(lm.tokens), lm.truncated
    gold = [bound.gold_request(doc, cell.seed) for doc in docs]
    asked = [request for request in gold if request is not None]
    n_requests = sum(map(len, requests))
    kept = kept or Checkpoint()
    counts = _Counts(composed, lm, on_done, n_requests + len(asked))
    evaluator.on_done = lambda done, of: counts.on_done(done)
    with composed.task(bound.name, cell.task.own):
        if composed.survey is not None:
            with composed.survey.looking():
                lm.pass_prompts([*(request for own in requests for request in own), *asked])
        counts.go_on(kept)
        outputs = iter(lm.score([request for own in requests for request in own], kept))
        grouped = [_of_one_item(own, [next(outputs) for _ in own]) for own in requests]
        scored = [own for own, asked_for in zip(grouped, requests, strict=True) if asked_for[0].kind == "loglikelihood"]
        _require_finite([[value for value, _ in own] for own in scored])
        routing = kept.run("routing", lambda _: composed.diagnostics())
        evaluator.on_done = lambda done, of: counts.on_done(n_requests + done)
        likelihoods = iter(lm.score(asked, kept)) if asked else iter(())
        golds = [None if request is None else float(next(likelihoods)[0]) for request in gold]
        _require_finite([[value] for value in golds if value is not None])
    return {
        "items": [
            {"id": doc.id, "outputs": outs, "gold_loglikelihood": likelihood}
            for doc, outs, likelihood in zip(docs, grouped, golds, strict=True)
        ],
        "requests": rendered(requests),
        "routing": routing,
        "parameters": {
            "trainable": {name: sum(p.numel() for p in group.values()) for name, group in composed.groups().items()},
            "stored": composed.stored(),
        },
        "passes": composed.passes,
        "tokens": {kind: count - tokens[kind] for kind, count in lm.tokens.items()},
        "truncated": lm.truncated - truncated,
        "path": lm.path,
        "path_reason": lm.reason or lm.generation_reason,
        "notes": [*cell.method.method.notes(composed), *_without_mass(routing, cell.task.own, composed)],
        "peak_memory_bytes": peak_memory(computed_on(composed.model)),
    }


class _Counts:
    """What an evaluation counts on the way, whichever of its requests it is at.

    Args:
        composed: counts routing.
        lm: counts tokens.
        on_done: called with (requests done, requests in all).
        of: requests in all.
    """

    def __init__(self, composed: Composed, lm: EvaluationLM, on_done: Callable[[int, int], None], of: int) -> None:
        self._composed, self._lm, self._on_done, self._of = composed, lm, on_done, of
        self._start = dict(lm.computed)
        self._done = 0

    def on_done(self, done: int) -> None:
        """So many requests are done."""
        self._done = done
        self._on_done(done, self._of)

    def go_on(self, kept: Checkpoint) -> None:
        """Have them kept, and count on from where an earlier process was."""
        kept.ambient = self._state
        if kept.around is not None:
            self._composed.load_tally(kept.around["tally"])
            self._lm.computed = {path: self._start[path] + n for path, n in kept.around["computed"].items()}
            kept.say(f"goes on after {kept.around['done']} of {self._of} requests")

    def _state(self) -> Data | None:
        if not _tallies(type(self._composed)):
            return None
        computed = {path: n - self._start[path] for path, n in self._lm.computed.items()}
        return {"tally": self._composed.tally(), "computed": computed, "done": self._done}


def _tallies(kind: type[Composed]) -> bool:
    """Whether a class says what its diagnostics count: `tally` comes with `diagnostics`, or from below it."""
    first, second = (next(one for one in kind.__mro__ if name in vars(one)) for name in ("tally", "diagnostics"))
    return issubclass(first, second)


def _without_mass(routing: Mapping[str, Any] | None, own: str | None, composed: Composed) -> list[str]:
    """Why there is no mass of the task's own expert, where it has one."""
    if routing is None or own not in composed.experts or routing["own_expert_mass"] is not None:
        return []
    return [f"No token kept any expert, so that the share of {own} is undefined."]


def _require_finite(likelihoods: Sequence[Sequence[float]]) -> None:
    bad = sum(not all(map(math.isfinite, own)) for own in likelihoods)
    if bad:
        raise NotFinite(
            f"{bad} of {len(likelihoods)} items have a likelihood that is not finite: weights or activations "
            "overflow, so lower the learning rates that made them, or compute in another model.dtype."
        )


def _of_one_item(requests: Sequence[Request], outputs: Sequence[Any]) -> list[Any]:
    """Outputs as `BoundTask.score` takes them: one likelihood per choice, or the texts of the only generation."""
    if requests[0].kind == "generate":
        (texts,) = outputs
        return list(texts)
    return [[output.loglikelihood, output.is_greedy] for output in outputs]
