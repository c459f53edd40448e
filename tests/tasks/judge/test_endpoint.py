"""One question to an endpoint: what is retried, how long is waited, what is counted, what stops everything."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from typing import Any

import pytest

from tasks.judge.config import EndpointConfig
from tasks.judge.endpoint import AskError, Budget, Endpoint, Reply, retry_after
from tests.fake_endpoint import Cut, Fail, FakeEndpoint, Garbage, Hang, Say

QUESTION = [{"role": "user", "content": "<question>\nq\n</question>"}]
SCHEMA = {"type": "object", "properties": {"score": {"type": "integer"}}}


def config_for(endpoint: FakeEndpoint, **settings: Any) -> EndpointConfig:
    defaults = {"preset": "generic", "base_url": endpoint.url, "model": "asked-for", "backoff": 0.01, "timeout": 5.0}
    return EndpointConfig(**(defaults | settings))


def ask(
    endpoint: FakeEndpoint, count: int = 1, budget: Budget | None = None, **settings: Any
) -> list[Reply | AskError]:
    """Ask the same question `count` times, one after the other."""
    config = config_for(endpoint, **settings)

    async def main() -> list[Reply | AskError]:
        outcomes: list[Reply | AskError] = []
        async with Endpoint(config, budget or Budget.of(config)) as asked:
            for _ in range(count):
                try:
                    outcomes.append(await asked.ask(QUESTION, SCHEMA))
                except AskError as failure:
                    outcomes.append(failure)
        return outcomes

    return asyncio.run(main())


def reply_of(outcomes: list[Reply | AskError]) -> Reply:
    (reply,) = outcomes
    assert isinstance(reply, Reply), reply
    return reply


def failure_of(outcomes: list[Reply | AskError]) -> AskError:
    (failure,) = outcomes
    assert isinstance(failure, AskError), failure
    return failure


def test_a_reply_is_taken_apart(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda *_: Say("text", thinking="hm", model="moved-to", usage=(7, 3))
    budget = Budget()
    reply = reply_of(ask(endpoint, budget=budget))
    assert reply == Reply("text", "hm", "moved-to", "stop", 7, 3, False, "json_object")
    assert (budget.requests, budget.retries, budget.prompt_tokens, budget.completion_tokens) == (1, 0, 7, 3)


def test_what_is_sent(endpoint: FakeEndpoint) -> None:
    ask(endpoint, temperature=0.5, max_tokens=11, extra_body={"top_k": 1})
    body = endpoint.log[0].body
    assert body == {
        "model": "asked-for",
        "messages": QUESTION,
        "temperature": 0.5,
        "max_tokens": 11,
        "top_k": 1,
        "response_format": {"type": "json_object"},
    }
    ask(endpoint, temperature=None, max_tokens_field="max_completion_tokens", structured="json_schema")
    body = endpoint.log[1].body
    assert "temperature" not in body
    assert "max_tokens" not in body
    assert body["max_completion_tokens"] == 1024
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA


def test_identifiers_of_another_vendor_are_not_sent(endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-other")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-other")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    ask(endpoint)
    assert "other" not in str(endpoint.log[0].headers)


def test_missing_usage_is_estimated_and_said(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda *_: Say("x" * 400, usage=None)
    reply = reply_of(ask(endpoint))
    assert reply.tokens_estimated
    assert reply.completion_tokens == 100


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_passing_faults_are_retried(endpoint: FakeEndpoint, status: int) -> None:
    endpoint.answer = lambda question, nth, body: Fail(status) if nth < 2 else Say("ok")
    budget = Budget()
    assert reply_of(ask(endpoint, budget=budget)).text == "ok"
    assert (budget.requests, budget.retries) == (3, 2)


@pytest.mark.parametrize("after", [10, 150])
def test_cut_connections_are_retried(endpoint: FakeEndpoint, after: int) -> None:
    endpoint.answer = lambda question, nth, body: Cut(after) if nth < 1 else Say("ok")
    assert reply_of(ask(endpoint)).text == "ok"


@pytest.mark.parametrize(
    "garbage",
    [
        (b"<html>busy</html>", "text/html"),
        (b"<html>busy</html>", "application/json"),
        (b'{"choices": []}', "application/json"),
        (b'{"choices": null}', "application/json"),
        (b'{"choices": [{"message": {"content": 5}}]}', "application/json"),
        (b"[]", "application/json"),
        (b"null", "application/json"),
        (b'{"choices": [{"mess', "application/json"),
        (b"", "application/json"),
    ],
)
def test_bodies_that_are_no_completion_are_retried(endpoint: FakeEndpoint, garbage: tuple[bytes, str]) -> None:
    endpoint.answer = lambda question, nth, body: Garbage(*garbage) if nth < 1 else Say("ok")
    assert reply_of(ask(endpoint)).text == "ok"
    endpoint.answer = lambda *_: Garbage(*garbage)
    assert failure_of(ask(endpoint, max_retries=1)).reason == "malformed"


def test_blank_lines_do_not_extend_the_time_limit(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda *_: Hang(10)
    started = time.monotonic()
    failure = failure_of(ask(endpoint, timeout=0.3, max_retries=1))
    assert failure.reason == "timeout"
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (429, "rate_limit"),
        (500, "server_error"),
        (400, "rejected"),
        (413, "rejected"),
        (401, "refused"),
        (402, "refused"),
    ],
)
def test_lasting_faults_are_named(endpoint: FakeEndpoint, status: int, reason: str) -> None:
    endpoint.answer = lambda *_: Fail(status, "in their words")
    failure = failure_of(ask(endpoint, max_retries=2, structured="none"))
    assert failure.reason == reason
    assert f"HTTP {status}" in failure.detail
    assert "in their words" in failure.detail
    assert len(endpoint.log) == (3 if reason in ("rate_limit", "server_error") else 1)


def test_a_server_that_is_not_there_is_a_connection_fault(endpoint: FakeEndpoint) -> None:
    failure = failure_of(ask(endpoint, base_url="http://127.0.0.1:9/v1", max_retries=1))
    assert failure.reason == "connection"


def test_retry_after_is_honoured_by_everybody(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda question, nth, body: Fail(429, headers={"Retry-After": "0.5"}) if nth < 1 else Say("ok")
    config = config_for(endpoint)

    async def main() -> list[float]:
        times: list[float] = []
        async with Endpoint(config, Budget()) as asked:

            async def one(delay: float) -> None:
                await asyncio.sleep(delay)
                await asked.ask(QUESTION)
                times.append(time.monotonic())

            started = time.monotonic()
            await asyncio.gather(one(0), one(0.2))
            return [at - started for at in times]

    assert min(asyncio.run(main())) >= 0.5
    assert len(endpoint.log) == 3


def test_an_endpoint_that_asks_for_too_long_a_wait_is_not_waited_for(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda *_: Fail(429, headers={"Retry-After": "3600"})
    assert failure_of(ask(endpoint, max_wait=1.0)).reason == "rate_limit"
    assert len(endpoint.log) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": formatdate(time.time() - 100)}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_retry_after_may_be_a_date() -> None:
    wait = retry_after({"retry-after": formatdate(time.time() + 30, usegmt=True)})
    assert wait is not None
    assert 25 < wait <= 30


def test_a_rejected_hint_is_dropped_for_good(endpoint: FakeEndpoint) -> None:
    def answer(question: str, nth: int, body: dict[str, Any]) -> Any:
        return Fail(400, "response_format is not supported") if "response_format" in body else Say("ok")

    endpoint.answer = answer
    outcomes = ask(endpoint, count=3)
    assert [outcome.structured for outcome in outcomes if isinstance(outcome, Reply)] == ["none"] * 3
    assert ["response_format" in asked.body for asked in endpoint.log] == [True, False, False, False]


def test_a_request_that_is_rejected_either_way_leaves_the_hint_in_use(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda question, nth, body: Fail(400, "too long") if nth < 2 else Say("ok")
    first, second = ask(endpoint, count=2)
    assert isinstance(first, AskError)
    assert first.reason == "rejected"
    assert isinstance(second, Reply)
    assert second.structured == "json_object"


def test_a_refused_key_stops_everything_at_once(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda *_: Fail(401)
    assert [failure.reason for failure in ask(endpoint, count=5) if isinstance(failure, AskError)] == ["refused"] * 5
    assert len(endpoint.log) == 1


def test_a_dead_server_is_given_up(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda *_: Fail(500)
    outcomes = ask(endpoint, count=6, max_retries=1, give_up_after=3)
    reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, AskError)]
    assert reasons == ["server_error"] * 3 + ["unreachable"] * 3
    assert len(endpoint.log) == 6


def test_a_success_in_between_starts_the_count_anew(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda question, nth, body: Say("ok") if nth % 3 == 2 else Fail(500)
    outcomes = ask(endpoint, count=9, max_retries=0, give_up_after=3)
    assert sum(isinstance(outcome, Reply) for outcome in outcomes) == 3


def test_the_budget_in_requests_is_exact_and_counts_retries(endpoint: FakeEndpoint) -> None:
    endpoint.answer = lambda question, nth, body: Fail(500) if nth < 1 else Say("ok")
    outcomes = ask(endpoint, count=4, budget_requests=3)
    assert [getattr(outcome, "reason", "ok") for outcome in outcomes] == ["ok", "ok", "budget", "budget"]
    assert len(endpoint.log) == 3


def test_the_budget_in_tokens_stops_before_the_next_request(endpoint: FakeEndpoint) -> None:
    outcomes = ask(endpoint, count=4, budget_tokens=240)
    assert [getattr(outcome, "reason", "ok") for outcome in outcomes] == ["ok", "ok", "budget", "budget"]
