"""Judging a set of answers: every distinct question to the judge is asked once, and never again after a reply."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from tasks.judge.cache import ReplyCache, reply_key
from tasks.judge.config import JudgeConfig
from tasks.judge.endpoint import AskError, Budget, Endpoint
from tasks.judge.parse import read
from tasks.judge.reply import Reply, stored_reply
from tasks.judge.report import JudgeItem, JudgeReport, Opinion, Verdict, build_report

T = TypeVar("T")
Progress = Callable[[int, int], None]

_TAG = re.compile(r"</?\s*(?:candidate_answer|reference_answer|question)\b|</?think", re.IGNORECASE)

VERDICT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "score": {"type": "integer", "minimum": 0, "maximum": 100},
        "reason": {"type": "string"},
    },
    "required": ["score", "reason"],
    "additionalProperties": False,
}


def judge(
    items: Sequence[JudgeItem],
    config: JudgeConfig,
    *,
    cache: Path,
    budget: Budget | None = None,
    progress: Progress | None = None,
) -> JudgeReport:
    """Judge answers and wait for the verdicts; works inside a running event loop too (notebooks).

    Args:
        items: answers, with their questions.
        config: the judge.
        cache: folder for replies. What is found there is not asked again, and needs no key.
        budget: shared between several calls; by default the configuration's, afresh.
        progress: called with (opinions done, opinions in all).

    Returns:
        Verdicts in the order of `items`; those without a verdict say why.

    Raises:
        JudgeUnavailable: something has to be asked and there is no key.
        ValueError: the rubric does not exist.
    """
    return run_blocking(lambda: judge_async(items, config, cache=cache, budget=budget, progress=progress))


@dataclass(frozen=True)
class Judge:
    """A judge ready to work: `judge` with everything but the items given."""

    config: JudgeConfig
    cache: Path
    budget: Budget | None = None
    progress: Progress | None = None

    def with_rubric(self, name: str) -> Judge:
        """The same with a task's rubric, unless the configuration chose one."""
        return replace(self, config=self.config.with_rubric(name))

    def __call__(self, items: Sequence[JudgeItem]) -> JudgeReport:
        """Judge answers; see `judge`."""
        return judge(items, self.config, cache=self.cache, budget=self.budget, progress=self.progress)


async def judge_async(
    items: Sequence[JudgeItem],
    config: JudgeConfig,
    *,
    cache: Path,
    budget: Budget | None = None,
    progress: Progress | None = None,
) -> JudgeReport:
    """`judge` for callers that run an event loop."""
    budget = Budget.of(config) if budget is None else budget
    before = (budget.requests, budget.retries, budget.prompt_tokens, budget.completion_tokens)
    with ReplyCache(cache) as replies:
        async with Endpoint(config, budget) as endpoint:
            bench = _Bench(config, endpoint, replies)
            verdicts = await bench.judge(items, progress)
    now = (budget.requests, budget.retries, budget.prompt_tokens, budget.completion_tokens)
    requests, retries, prompt_tokens, completion_tokens = (b - a for a, b in zip(before, now, strict=True))
    return build_report(
        items,
        verdicts,
        judge=config.identity(),
        requests=requests,
        retries=retries,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        tokens_estimated=bench.tokens_estimated,
        structured_rejected=bench.structured_rejected,
    )


@dataclass(frozen=True)
class _Job:
    """One opinion to form: the chat without a fence, the first item, which repeat it is, and all items that wait."""

    messages: list[dict[str, str]]
    item: JudgeItem
    repeat: int
    items: tuple[int, ...]


class _Bench:
    def __init__(self, config: JudgeConfig, endpoint: Endpoint, replies: ReplyCache) -> None:
        self.config = config
        self.rubric = config.load_rubric()
        self.endpoint = endpoint
        self.replies = replies
        self.tokens_estimated = False
        self.structured_rejected = False

    async def judge(self, items: Sequence[JudgeItem], progress: Progress | None) -> list[Verdict]:
        opinions: list[list[Opinion | None]] = [[None] * self.config.repeats for _ in items]
        jobs = list(self._jobs(items))
        done = 0

        async def form(job: _Job) -> None:
            nonlocal done
            opinion = await self._opinion(job)
            for index in job.items:
                opinions[index][job.repeat] = opinion
            done += len(job.items)
            if progress is not None:
                progress(done, len(items) * self.config.repeats)

        await each(jobs, form, self.config.concurrency)
        return [
            Verdict(item.id, tuple(opinion for opinion in row if opinion is not None))
            for item, row in zip(items, opinions, strict=True)
        ]

    def _jobs(self, items: Sequence[JudgeItem]) -> Iterator[_Job]:
        """Equal questions share a job; a first verdict on every item comes before a second on any."""
        chats = [self.rubric.messages(item.question, item.answer, item.reference) for item in items]
        waiting: dict[str, list[int]] = defaultdict(list)
        for index, messages in enumerate(chats):
            waiting[reply_key(messages)].append(index)
        for repeat in range(self.config.repeats):
            for indices in waiting.values():
                yield _Job(chats[indices[0]], items[indices[0]], repeat, tuple(indices))

    async def _opinion(self, job: _Job) -> Opinion:
        opinion = None
        for attempt in range(self.config.attempts):
            place = (self.rubric.label, self.rubric.digest, job.messages, job.repeat, attempt)
            key = reply_key(self.config.asked_with(), *place)
            stored = self._stored(key, place, job)
            if stored is None:
                try:
                    reply = await self.endpoint.ask(self._fenced(job.item), VERDICT_SCHEMA)
                except AskError as failure:
                    return opinion or Opinion(None, "", failure.reason, failure.detail)
                self.replies.put(key, asdict(reply))
            else:
                reply = stored
            self.tokens_estimated |= reply.tokens_estimated
            self.structured_rejected |= reply.structured != self.config.structured
            opinion = read_reply(reply, cached=stored is not None)
            if opinion.score is not None:
                return opinion
        assert opinion is not None, "attempts is at least 1"
        return opinion

    def _stored(self, key: str, place: tuple[Any, ...], job: _Job) -> Reply | None:
        """The reply on disk, if need be under the key that earlier versions stored it by.

        Those asked without a fence: their replies serve where the answer holds nothing that a fence guards against.
        """
        found = stored_reply(self.replies.get(key))
        before = self.config.asked_with_before()
        if found is None and before is not None and not _TAG.search(job.item.answer):
            found = stored_reply(self.replies.get(reply_key(before, *place)))
        return found

    def _fenced(self, item: JudgeItem) -> list[dict[str, str]]:
        """The chat of an item, its answer between tags that are drawn anew for every request."""
        texts = (item.question, item.answer, item.reference or "")
        fence = secrets.token_hex(8)
        while any(fence in text for text in texts):
            fence = secrets.token_hex(8)
        return self.rubric.messages(item.question, item.answer, item.reference, fence)


def read_reply(reply: Reply, *, cached: bool) -> Opinion:
    """The opinion in a reply: its thinking set apart, its verdict parsed or the reason why there is none."""
    found = read(reply.text, cut=reply.finish == "length")
    text, parsed = found.text, found.verdict
    thinking = "\n".join(part for part in (reply.thinking, found.thinking) if part)
    unscored, detail = None, ""
    if reply.finish == "content_filter":
        parsed, unscored, detail = None, "filtered", "the endpoint's content filter held the reply back"
    elif parsed is None:
        if reply.finish == "length":
            unscored, detail = "truncated", "cut at max_tokens before a verdict"
        elif not text:
            unscored, detail = "empty", "thinking only" if thinking else "no text"
        else:
            unscored, detail = "unparsable", "no verdict in the text"
    return Opinion(
        score=None if parsed is None else parsed.score,
        reason="" if parsed is None else parsed.reason,
        unscored=unscored,
        detail=detail,
        model=reply.model,
        text=text,
        thinking=thinking,
        structured=reply.structured,
        cached=cached,
    )


async def each(jobs: Sequence[T], work: Callable[[T], Awaitable[None]], concurrency: int) -> None:
    """Do `work` on every job, in order of start, at most `concurrency` at a time; the first error ends all."""
    remaining = iter(jobs)

    async def worker() -> None:
        for job in remaining:
            await work(job)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(jobs))):
                group.create_task(worker())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def run_blocking(start: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine to its end, in a thread of its own when this one already runs an event loop."""

    async def main() -> T:
        return await start()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main())
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, main()).result()
