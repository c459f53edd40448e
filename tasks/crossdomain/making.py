"""Making a cross-domain set: ask, check, drop near-duplicates, store with everything it came from.

A set is a function of the generator's replies in order, and replies are stored before they are read. So a run that was
killed, or ended by its budget, goes on where it stopped, and a larger set begins with the rows of a smaller one.
"""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from results.ground.digest import row_digest, text_sha256
from results.ground.errors import HarnessError
from results.ground.files import make_folder, write_bytes
from tasks.crossdomain.prompt import Prompt, load_prompt
from tasks.crossdomain.similarity import Neighbours
from tasks.crossdomain.sources import SET
from tasks.crossdomain.structure import QUESTIONS_SCHEMA, read_candidates
from tasks.judge.cache import ReplyCache, reply_key
from tasks.judge.config import PRESETS, EndpointConfig
from tasks.judge.endpoint import AskError, Budget, Endpoint
from tasks.judge.reply import Reply, stored_reply
from tasks.judge.running import each, run_blocking

Progress = Callable[[int, int], None]


class GeneratorConfig(EndpointConfig):
    """The endpoint that writes questions, and how they are asked for."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        **PRESETS,
        "deepseek": {**PRESETS["deepseek"], "max_tokens": 32768, "timeout": 1200.0},
        "local": {**PRESETS["local"], "max_tokens": 4096},
    }

    temperature: float | None = Field(default=1.0, ge=0)
    per_request: int = Field(default=4, gt=0)
    """Questions asked for at once."""
    max_similarity: float = Field(default=0.7, gt=0, le=1)
    """Cosine with an earlier question from which one counts as its near-duplicate."""

    def identity(self) -> dict[str, Any]:
        """Everything about the generator that determines a set, as JSON data."""
        return self._with_asking(self.asked_with())

    def identity_before(self) -> dict[str, Any] | None:
        """The identity that earlier versions stored with a set; None where it does not tell endpoints apart."""
        before = self.asked_with_before()
        return None if before is None else self._with_asking(before)

    def _with_asking(self, asked_with: dict[str, Any]) -> dict[str, Any]:
        return {**asked_with, "per_request": self.per_request, "max_similarity": self.max_similarity}


@dataclass(frozen=True)
class MadeSet:
    """What came of a call: the folder, its questions, and why there are fewer than asked for (None: complete).

    An incomplete set has no `test.jsonl` yet: the same call goes on.
    """

    folder: Path
    rows: tuple[dict[str, Any], ...]
    rejected: dict[str, int]
    requests: int
    missing: str | None


class SetError(HarnessError, ValueError):
    """A folder holds another set than the one asked for. The message names the mend."""


def make_crossdomain(
    kind: str, n: int, out: Path, config: GeneratorConfig, *, progress: Progress | None = None
) -> MadeSet:
    """Make a set of `n` questions in `out/crossdomain/<kind>/`, or finish the one that was begun there.

    The folder gets `test.jsonl` (id, question, answer, solution, topics, model), `set.json` (prompt, generator, model
    ids that came back, date, counts, hash of the rows) and `replies/` (every reply as it came).

    Args:
        kind: `math-medical` or `math-coding`.
        n: questions wanted.
        out: a data directory, for `--data`.
        config: the generator.
        progress: called with (questions kept, n).

    Raises:
        JudgeUnavailable: something has to be asked and there is no key.
        UnknownName: unknown kind.
        SetError: the folder holds a set of another generator or prompt.
    """
    prompt = load_prompt(kind)
    folder = out / SET / kind
    stored = _stored(folder, prompt, config)
    if stored is not None and len(stored) >= n:
        return MadeSet(folder, tuple(stored), {}, 0, None)
    make_folder(folder)
    making = _Making(prompt, n, folder, config, progress)
    return run_blocking(making.run)


@dataclass
class _Making:
    prompt: Prompt
    n: int
    folder: Path
    config: GeneratorConfig
    progress: Progress | None
    rows: list[dict[str, Any]] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    used: int = 0

    async def run(self) -> MadeSet:
        budget = Budget.of(self.config)
        missing: str | None = None
        neighbours = Neighbours()
        most = 5 * -(-self.n // self.config.per_request)
        with ReplyCache(self.folder / "replies") as cache:
            async with Endpoint(self.config, budget) as endpoint:
                while missing is None and len(self.rows) < self.n:
                    if self.used >= most:
                        missing = f"only {len(self.rows)} questions of {self.used} replies could be kept"
                        break
                    wave = range(self.used, min(self.used + self.config.concurrency, most))
                    replies, failure = await self._ask(wave, endpoint, cache)
                    for batch in wave:
                        if batch not in replies:
                            missing = str(failure)
                            break
                        self._take(replies[batch], batch, neighbours)
                        if len(self.rows) == self.n:
                            break
        if missing is None:
            self._publish()
        return MadeSet(self.folder, tuple(self.rows), dict(self.rejected), budget.requests, missing)

    async def _ask(
        self, batches: range, endpoint: Endpoint, cache: ReplyCache
    ) -> tuple[dict[int, Reply], AskError | None]:
        replies: dict[int, Reply] = {}
        failures: list[AskError] = []

        async def one(batch: int) -> None:
            messages = self.prompt.messages(self.prompt.pairs(batch, self.config.per_request))
            place = (self.prompt.kind, self.prompt.digest, messages, batch)
            key = reply_key(self.config.asked_with(), *place)
            reply, before = stored_reply(cache.get(key)), self.config.asked_with_before()
            if reply is None and before is not None:
                reply = stored_reply(cache.get(reply_key(before, *place)))
            if reply is None:
                try:
                    reply = await endpoint.ask(messages, QUESTIONS_SCHEMA)
                except AskError as failure:
                    failures.append(failure)
                    return
                cache.put(key, asdict(reply))
            replies[batch] = reply

        await each(batches, one, self.config.concurrency)
        return replies, failures[0] if failures else None

    def _take(self, reply: Reply, batch: int, neighbours: Neighbours) -> None:
        self.used += 1
        self.models[reply.model] += 1
        self.tokens.update(prompt=reply.prompt_tokens, completion=reply.completion_tokens)
        candidates, left_out = read_candidates(reply.text, self.prompt.pairs(batch, self.config.per_request))
        self.rejected.update(left_out)
        for candidate in candidates:
            if len(self.rows) == self.n:
                break
            if neighbours.nearest(candidate.question) >= self.config.max_similarity:
                self.rejected["near_duplicate"] += 1
                continue
            neighbours.add(candidate.question)
            self.rows.append(
                {
                    "id": f"{self.prompt.kind}-{row_digest(candidate.question)}",
                    "question": candidate.question,
                    "answer": candidate.answer,
                    "solution": candidate.solution,
                    "topics": list(candidate.topics),
                    "model": reply.model,
                    "batch": batch,
                }
            )
        if self.progress is not None:
            self.progress(len(self.rows), self.n)

    def _publish(self) -> None:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)
        (self.folder / "set.json").unlink(missing_ok=True)  # never a description beside rows that it doesn't describe
        write_bytes(self.folder / "test.jsonl", text.encode())
        facts = {
            "kind": self.prompt.kind,
            "n": self.n,
            "made": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
            "generator": self.config.identity(),
            "models": dict(self.models.most_common()),
            "replies": self.used,
            "tokens": dict(self.tokens),
            "rejected": dict(sorted(self.rejected.items())),
            "sha256": text_sha256(text),
            "prompt": {"digest": self.prompt.digest, **asdict(self.prompt)},
        }
        write_bytes(self.folder / "set.json", (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode())


def _stored(folder: Path, prompt: Prompt, config: GeneratorConfig) -> list[dict[str, Any]] | None:
    """Rows of the finished set in a folder; None without one.

    Raises:
        SetError: it came from another generator or prompt, or its rows were changed.
    """
    if not (folder / "set.json").is_file():
        return None
    facts = json.loads((folder / "set.json").read_text(encoding="utf-8"))
    known = facts["generator"] in (config.identity(), config.identity_before())
    if not known or facts["prompt"]["digest"] != prompt.digest:
        made_by = f"{facts['generator']['model']} on {facts['made']}"
        raise SetError(f"{folder} holds a set made by {made_by} with other settings: name another output folder.")
    text = (folder / "test.jsonl").read_text(encoding="utf-8")
    if text_sha256(text) != facts["sha256"]:
        raise SetError(f"The rows in {folder} are not those that were made: delete set.json to make them again.")
    return [json.loads(line) for line in text.splitlines()]
