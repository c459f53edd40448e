"""Runs tokenised work on a model by the shared path or the plain one, and says which."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from harness.checkpoints import Checkpoint, Data, Piece
from harness.evaluation.attention import CannotShare
from harness.evaluation.decode import Decoder, Generation, ragged, rows_of
from harness.evaluation.encode import Scored
from harness.evaluation.likelihood import Likelihood, TreeScorer
from harness.evaluation.passes import SharedPasses
from harness.evaluation.paths import deviation, generation_obstacle, longest_shared, obstacle
from harness.evaluation.plain import PlainRunner
from harness.evaluation.stopping import Stops
from results.ground.errors import HarnessError

if TYPE_CHECKING:
    from methods.routing.context import RoutingContext

Path = Literal["shared", "plain"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What one forward pass and the decoding buffers may hold.

    Attributes:
        batch_tokens: most tokens of one forward pass, padding counted.
        batch_rows: most rows decoded at once.
        overhead: what one more forward pass costs, in tokens (its launches and the reading of all weights).
        cache_bytes: most memory for the decoded rows' own keys and values.
    """

    batch_tokens: int
    batch_rows: int
    overhead: int
    cache_bytes: int

    @classmethod
    def of(cls, device: torch.device, batch_tokens: int | None, batch_rows: int, cache_bytes: int) -> Limits:
        """Limits for a device; `batch_tokens` can lower its best batch, not raise it.

        On a CPU larger passes are slower: between two matrix products their activations leave the cache.
        """
        tokens, overhead = (512, 64) if device.type == "cpu" else (16384, 1024)
        return cls(min(batch_tokens or tokens, tokens), batch_rows, overhead, cache_bytes)


class Runner:
    """Scores token sequences and continues prompts.

    Args:
        model: in evaluation mode.
        tokenizer: finds stop strings in generated tokens.
        pad_token: id for padding columns.
        limits: of batches.
        kv_cache: False where weights depend on whole sequences: the plain path without a cache.
        whole_prompts: True where weights depend on whole prompts: the plain path.
        passes: of the base model behind each of the model's (`Composed.passes`).
        asked: `shared` and `plain` force a path; `auto` decides.
        context: see `EvaluationLM`.
        progress: told of finished items.
        around: see `SharedPasses`.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        pad_token: int,
        limits: Limits,
        *,
        kv_cache: bool,
        whole_prompts: bool,
        passes: int,
        asked: Literal["auto", "shared", "plain"],
        context: RoutingContext | None,
        progress: Progress,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.limits = limits
        self.kv_cache = kv_cache
        self.whole_prompts = whole_prompts
        self.asked = asked
        self.context = context
        self.progress = progress
        self.stops = Stops(tokenizer, _end_tokens(model))
        self.passes = SharedPasses(model, passes, around)
        self.plain = PlainRunner(
            model,
            pad_token,
            self.stops,
            rows=limits.batch_rows,
            batch_tokens=limits.batch_tokens,
            kv_cache=kv_cache,
            passes=passes,
            context=context,
        )
        self.longest_shared: int | None = None
        self._chosen: tuple[Path, str] | None = None

    def choose(self) -> tuple[Path, str]:
        """The path, and why it is the plain one. Decided once, by running both on a few tokens.

        Raises:
            HarnessError: `shared` was asked for and is not possible.
        """
        if self._chosen is None:
            reason = self._why_plain()
            if reason and self.asked == "shared":
                raise HarnessError(f"Prefixes cannot be shared ({reason}): use the path 'auto' or 'plain'.")
            if reason and self.asked == "auto":
                log.warning("evaluation takes the plain path: %s", reason)
            self.longest_shared = None if reason else longest_shared(self.model)
            chosen: tuple[Path, str] = ("plain", reason) if reason else ("shared", "")
            self._chosen = chosen
        return self._chosen

    def generation_reason(self) -> str:
        """Why generation takes the plain path; empty where it takes the shared one."""
        return self.choose()[1] or generation_obstacle(self.model) or ""

    @torch.no_grad()
    def _why_plain(self) -> str:
        if self.asked == "plain":
            return "asked for"
        if not self.kv_cache:
            return "the method's weights depend on whole sequences"
        if self.whole_prompts:
            return "the method's weights depend on whole prompts"
        if reason := obstacle(self.model):
            return reason
        collect = self.context.collect if self.context is not None else False
        if self.context is not None:
            self.context.collect = False
        try:
            return deviation(self.model, self.tokenizer) or ""
        except CannotShare as error:
            return str(error)
        finally:
            if self.context is not None:
                self.context.collect = collect

    # Not inference mode: routed layers may keep tensors of a pass, and training must be able to use them.
    @torch.no_grad()
    def score(self, items: Sequence[Scored], kept: Checkpoint | None = None) -> list[Likelihood]:
        """One `Likelihood` per item; what `kept` holds of an earlier process is not computed again."""
        limits = self.limits
        shared = self._sharable([len(item.inputs) for item in items])
        tree = TreeScorer(self.passes, batch_tokens=limits.batch_tokens, overhead=limits.overhead)

        def by(path: Path, own: list[Scored]) -> list[Likelihood]:
            score = tree.score if path == "shared" else self.plain.score

            def result(piece: Piece) -> Data:
                found = score(own, self.progress.add, piece)
                return {"sums": [one.loglikelihood for one in found], "greedy": [one.is_greedy for one in found]}

            found = self._piece(kept, f"likelihoods, {path}", len(own), result)
            return [Likelihood(*pair) for pair in zip(found["sums"], found["greedy"], strict=True)]

        return _by_path(items, shared, by)

    @torch.no_grad()
    def generate(self, jobs: Sequence[Generation], kept: Checkpoint | None = None) -> list[list[int]]:
        """Generated token ids of every job; see `score`."""
        limits = self.limits
        shared = self._sharable([len(job.prompt) + job.max_new_tokens for job in jobs])
        if any(shared) and self.generation_reason():
            log.warning("generation takes the plain path: %s", self.generation_reason())
            shared = [False] * len(jobs)
        decoder = Decoder(
            self.passes,
            self.stops,
            rows=limits.batch_rows,
            batch_tokens=limits.batch_tokens,
            cache_bytes=limits.cache_bytes,
        )

        def by(path: Path, own: list[Generation]) -> list[list[int]]:
            generate = decoder.generate if path == "shared" else self.plain.generate

            def result(piece: Piece) -> Data:
                return ragged(generate(own, self.progress.add, piece))

            return rows_of(self._piece(kept, f"texts, {path}", len(own), result))

        return _by_path(jobs, shared, by)

    def _piece(self, kept: Checkpoint | None, name: str, size: int, result: Callable[[Piece], Data]) -> Data:
        """The result for `size` items, computed here or by an earlier process."""
        kept = kept or Checkpoint()
        found = kept.run(name, result)
        if kept.replayed:
            self.progress.add(size)
        return found

    @torch.no_grad()
    def pass_prompts(self, prompts: Sequence[Sequence[int]]) -> None:
        """Pass each prompt once, whole and marked, as the plain path does; nothing of it is kept."""
        self.plain.score([Scored(list(prompt), [0]) for prompt in prompts])

    def _sharable(self, lengths: Sequence[int]) -> list[bool]:
        if not lengths or self.choose()[0] == "plain":
            return [False] * len(lengths)
        return [self.longest_shared is None or length <= self.longest_shared for length in lengths]


def _by_path(items: Sequence[Any], shared: Sequence[bool], by: Callable[[Path, Any], list[Any]]) -> list[Any]:
    parts = {}
    paths: dict[bool, Path] = {True: "shared", False: "plain"}
    for shares, path in paths.items():
        own = [item for item, its in zip(items, shared, strict=True) if its is shares]
        parts[shares] = iter(by(path, own) if own else [])
    return [next(parts[own]) for own in shared]


def _end_tokens(model: nn.Module) -> list[int]:
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if ends is None:
        return []
    return [int(end) for end in (ends if isinstance(ends, list | tuple) else [ends])]


class Progress:
    """Counts finished requests of one call; a request with several samples counts once they are all done."""

    def __init__(self, report: Callable[[int, int], None] | None) -> None:
        self._report = report
        self.begin(0)

    def begin(self, total: int) -> None:
        """Start a call of `total` requests."""
        self._total, self._done, self._weight = total, 0.0, 1.0

    def weigh(self, requests: int, jobs: int) -> None:
        """From here on `jobs` finished jobs are `requests` finished requests."""
        self._weight = requests / jobs if jobs else 1.0

    def add(self, done: int) -> None:
        """So many more are done."""
        self._done += done * self._weight
        if self._report is not None and done:
            self._report(min(self._total, round(self._done)), self._total)
