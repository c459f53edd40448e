"""Five hundred answers against an endpoint with every fault there is, and a run that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.judge import JudgeConfig, JudgeItem, judge
from tasks.judge.cache import ReplyCache
from tests.fake_endpoint import Cut, Fail, FakeEndpoint, Garbage, Hang, Say, verdict

ITEMS = 500
# What the endpoint does with item i is decided by i % 20; the last group never gets a verdict.
SCORED_AT_ONCE = {0, 1, 2}
SCORED_IN_THE_END = set(range(3, 14))
LOST = {14: "server_error", 15: "unparsable", 16: "empty", 17: "rejected", 18: "malformed", 19: "truncated"}


def faults() -> Any:
    good = verdict

    def answer(question: str, nth: int, body: dict[str, Any]) -> Any:
        number = int(question[1:])
        score = number % 101
        group = number % 20
        valid = Say(good(score))
        if group == 0:
            return valid
        if group == 1:
            return Say(f"<think>Let me see: score: 3.</think>\n```json\n{good(score)}\n```")
        if group == 2:
            return Say(f"Score: {score}\nReason: prose.", thinking="hm")
        if group <= 12 and nth >= (2 if group == 12 else 1):
            return valid
        return {
            3: Fail(429, headers={"Retry-After": "0.1"}),
            4: Fail(429),
            5: Fail(500),
            6: Fail(503, headers={"Retry-After": "0.05"}),
            7: Hang(30) if number % 100 == 7 else Fail(504),
            8: Cut(20),
            9: Cut(200),
            10: Garbage(b"<html>gateway</html>", "text/html"),
            11: Say("", thinking="thinking only"),
            12: Fail(502) if nth == 0 else Say("<think>endless"),
            13: valid if nth else Say('{"score": 8'),
            14: Fail(500),
            15: Say("A fine answer, well written."),
            16: Say(None, thinking="thinking only"),
            17: Fail(400, "context too long"),
            18: Garbage(b'{"choices": [', "application/json"),
            19: Say('{"reason": "it goes on', finish="length"),
        }[group]

    return answer


def config_for(url: str) -> JudgeConfig:
    return JudgeConfig(
        preset="generic",
        base_url=url,
        model="asked-for",
        concurrency=16,
        timeout=4.0,
        backoff=0.02,
        max_retries=3,
        give_up_after=100,
    )


def questions(count: int) -> list[JudgeItem]:
    return [JudgeItem(f"id{n}", f"q{n}", f"answer {n}", f"gold {n}") for n in range(count)]


def test_every_item_ends_scored_or_counted_and_none_is_asked_twice_after_a_valid_answer(
    endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    endpoint.answer = faults()
    report = judge(questions(ITEMS), config_for(endpoint.url), cache=tmp_path)

    per_group = ITEMS // 20
    assert report.counts == {
        "scored": per_group * (len(SCORED_AT_ONCE) + len(SCORED_IN_THE_END)),
        **dict.fromkeys(sorted(LOST.values()), per_group),
    }
    assert sum(report.counts.values()) == ITEMS
    for number, given in enumerate(report.verdicts):
        group = number % 20
        assert given.id == f"id{number}"
        if group in LOST:
            assert (given.score, given.unscored) == (None, LOST[group])
        else:
            assert (given.score, given.unscored) == (number % 101, None)

    asked = Counter(request.question for request in endpoint.log)
    assert len(asked) == ITEMS
    assert report.requests == len(endpoint.log)
    for number in range(ITEMS):
        if number % 20 in SCORED_AT_ONCE:
            assert asked[f"q{number}"] == 1
        elif number % 20 in SCORED_IN_THE_END:
            assert asked[f"q{number}"] == (3 if number % 20 == 12 else 2)
    hints = Counter("response_format" in request.body for request in endpoint.log)
    assert hints[False] == per_group, "one item's rejection does not take the hint from the others"

    endpoint.log.clear()
    again = judge(questions(ITEMS), config_for(endpoint.url), cache=tmp_path)
    assert again.counts == report.counts
    failed = {f"q{n}" for n in range(ITEMS) if LOST.get(n % 20) in ("server_error", "rejected", "malformed")}
    assert {request.question for request in endpoint.log} == failed, "only failures without a reply are tried again"


def replies_of(number: int) -> int:
    """Chat completions that an undisturbed run gets about item `number`, each of them paid for."""
    return {11: 2, 12: 2, 13: 2, 14: 0, 15: 2, 16: 2, 17: 0, 18: 0, 19: 2}.get(number % 20, 1)


def test_a_killed_run_goes_on_without_repeating_a_paid_request(endpoint: FakeEndpoint, tmp_path: Path) -> None:
    endpoint.answer = faults()
    config, cache = config_for(endpoint.url), tmp_path / "cache"
    script = textwrap.dedent(f"""
        from pathlib import Path
        from tasks.judge import JudgeConfig, JudgeItem, judge
        items = [JudgeItem(f"id{{n}}", f"q{{n}}", f"answer {{n}}", f"gold {{n}}") for n in range({ITEMS})]
        judge(items, JudgeConfig.model_validate({config.model_dump()!r}), cache=Path({str(cache)!r}))
    """)
    root = Path(__file__).parents[3]
    child = subprocess.Popen([sys.executable, "-c", script], cwd=root, env={**os.environ, "PYTHONPATH": str(root)})
    try:
        deadline = time.monotonic() + 100
        while len(endpoint.log) < 300:
            assert child.poll() is None, "the child ended before it was killed"
            assert time.monotonic() < deadline, "the child never asked enough"
            time.sleep(0.005)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    time.sleep(0.1)
    with ReplyCache(cache) as replies:
        kept = len(replies)
    paid = sum(isinstance(request.action, Say) for request in endpoint.log)
    assert 50 < kept < sum(map(replies_of, range(ITEMS)))
    assert 0 <= paid - kept <= config.concurrency, "only replies still on their way are lost"

    report = judge(questions(ITEMS), config, cache=cache)
    assert report.counts["scored"] == ITEMS // 20 * 14
    assert sum(report.counts.values()) == ITEMS
    for number, given in enumerate(report.verdicts):
        assert given.score == (None if number % 20 in LOST else number % 101)
    repeated = [endpoint.said(f"q{number}") - replies_of(number) for number in range(ITEMS)]
    assert min(repeated) == 0
    assert sum(repeated) <= paid - kept, "what had arrived is not paid for again"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own handler for SIGINT, which a shell's background job does not get."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_keeps_what_was_paid_for(endpoint: FakeEndpoint, tmp_path: Path) -> None:
    def answer(question: str, nth: int, body: dict[str, Any]) -> Any:
        if question == "q40":
            os.kill(os.getpid(), signal.SIGINT)
        return Say(verdict(1), delay=0.01)

    endpoint.answer = answer
    with pytest.raises(KeyboardInterrupt):
        judge(questions(50), config_for(endpoint.url), cache=tmp_path)
    with ReplyCache(tmp_path) as replies:
        assert 0 < len(replies) < 50
