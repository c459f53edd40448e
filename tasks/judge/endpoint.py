"""Questions to a chat endpoint: retries, waiting, budget, and what came back. Knows nothing of judging.

The `openai` client speaks the protocol; its own retries are switched off so that every request is counted here.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import logging
import random
import re
import time
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from tasks.judge.config import EndpointConfig, api_key
from tasks.judge.reply import Reply, question_tokens, taken_apart
from tasks.judge.transport import LeftAddress, async_client, left_address

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

_POLICY = re.compile(r"content[_ ]?(?:filter|policy|management)|safety|moderation|prohibited", re.IGNORECASE)

log = logging.getLogger(__name__)

Reason = Literal[
    "budget", "refused", "unreachable", "rate_limit", "server_error", "timeout", "connection", "malformed", "rejected",
    "empty", "filtered", "truncated", "unparsable",
]  # fmt: skip
"""Why an item has no verdict.

`budget`: requests or tokens were used up. `refused`: key, balance or model not accepted, nothing more was asked.
`unreachable`: too many failures in a row, nothing more was asked. `rate_limit`, `server_error`, `timeout`,
`connection`, `malformed` (no chat completion came back): all retries failed so. `rejected`: this request was not
accepted (too long, content policy), which says nothing about others. `filtered`: the reply was held back. `empty`:
no text, or thinking only. `truncated`: cut at `max_tokens` before a verdict. `unparsable`: text
without a verdict.
"""


class AskError(Exception):
    """A question without a reply: `reason`, and `detail` in words without the key."""

    def __init__(
        self, reason: Reason, detail: str, *, retry: bool = False, wait: float | None = None, policy: bool = False
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.policy = policy
        """Whether the request's content was not accepted, so that another form of it will not be either."""
        self.reason: Reason = reason
        self.detail = detail
        self.retry = retry
        self.wait = wait
        """Seconds that the endpoint asked to wait."""


@dataclass
class Budget:
    """Requests and tokens that may be used, and how many were; may be shared by several calls."""

    max_requests: int | None = None
    max_tokens: int | None = None
    requests: int = field(default=0, init=False)
    retries: int = field(default=0, init=False)
    prompt_tokens: int = field(default=0, init=False)
    completion_tokens: int = field(default=0, init=False)

    @classmethod
    def of(cls, config: EndpointConfig) -> Self:
        """The budget that a configuration names."""
        return cls(config.budget_requests, config.budget_tokens)

    def spent(self) -> str | None:
        """A sentence once nothing more may be asked, else None."""
        if self.max_requests is not None and self.requests >= self.max_requests:
            return f"the budget of {self.max_requests} requests is used up"
        if self.max_tokens is not None and self.prompt_tokens + self.completion_tokens >= self.max_tokens:
            return f"the budget of {self.max_tokens} tokens is used up"
        return None

    def add(self, reply: Reply) -> None:
        """Count the tokens of a reply."""
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens

    def add_lost(self, messages: list[dict[str, str]]) -> None:
        """Count a question whose reply was paid for and did not arrive whole."""
        self.prompt_tokens += question_tokens(messages)


class Endpoint:
    """An open connection to an endpoint; the key is read from the environment at the first question."""

    def __init__(self, config: EndpointConfig, budget: Budget) -> None:
        self.config = config
        self.budget = budget
        self.structured: str = config.structured
        """The `response_format` in use: `none` after the endpoint rejected the one asked for."""
        self._client: AsyncOpenAI | None = None
        self._key = ""
        self._resume_at = 0.0
        self._failed_in_a_row = 0
        self._stopped: AskError | None = None
        self._jitter = random.Random()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.close()

    async def ask(self, messages: list[dict[str, str]], schema: dict[str, Any] | None = None) -> Reply:
        """One reply, after as many retries as the configuration allows.

        Args:
            messages: the chat so far, `{"role", "content"}` each.
            schema: JSON schema of the object wanted; without one no structured output is asked for.

        Raises:
            AskError: no reply; says why.
            JudgeUnavailable: there is no key.
        """
        self._check_stopped()
        try:
            reply = await self._ask(messages, schema)
        except AskError as failure:
            self._count_failure(failure)
            raise
        self._failed_in_a_row = 0
        return reply

    async def _ask(self, messages: list[dict[str, str]], schema: dict[str, Any] | None) -> Reply:
        for attempt in range(self.config.max_retries + 1):
            try:
                return await self._send(messages, schema)
            except AskError as failure:
                last = attempt == self.config.max_retries
                if last or not failure.retry or self._stopped is not None:
                    raise
                delay = self._delay(attempt, failure.wait)
                if delay > self.config.max_wait:
                    raise
                if failure.wait is not None:
                    # Whoever else is about to ask the same endpoint has to wait as well.
                    self._resume_at = max(self._resume_at, time.monotonic() + failure.wait)
                log.debug("%s from %s: next try in %.1f s", failure.reason, self.config.host, delay)
                self.budget.retries += 1
                await asyncio.sleep(delay)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _send(self, messages: list[dict[str, str]], schema: dict[str, Any] | None) -> Reply:
        structured = self.structured if schema is not None else "none"
        try:
            return await self._request(messages, structured, schema)
        except AskError as failure:
            if failure.reason != "rejected" or failure.policy or structured == "none":
                raise
        reply = await self._request(messages, "none", None)
        if self.structured != "none":
            log.info("%s rejects response_format: asking without it", self.config.host)
        self.structured = "none"
        return reply

    async def _request(self, messages: list[dict[str, str]], structured: str, schema: dict[str, Any] | None) -> Reply:
        client = self._open()
        while (wait := self._resume_at - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        self._check_stopped()
        if spent := self.budget.spent():
            raise AskError("budget", spent)
        self.budget.requests += 1
        import openai

        try:
            # The client's own limit restarts with every byte, and blank lines keep a waiting connection alive.
            async with asyncio.timeout(self.config.timeout):
                completion = await client.chat.completions.create(**self._body(messages, structured, schema))
        except (TimeoutError, openai.APITimeoutError):
            self.budget.add_lost(messages)
            raise AskError("timeout", f"no reply within {self.config.timeout:g} s", retry=True) from None
        except (openai.APIConnectionError, LeftAddress) as error:
            if left_address(error):
                where = f"{self.config.host} redirects to another address, which is not followed"
                raise AskError("refused", f"{where}: set base_url to the final one") from None
            cause = type(error.__cause__ or error).__name__
            raise AskError("connection", f"the connection failed ({cause})", retry=True) from None
        except openai.APIStatusError as error:
            raise self._status_failure(error) from None
        except (openai.APIResponseValidationError, ValueError):
            self.budget.add_lost(messages)
            raise AskError("malformed", "the body is no JSON", retry=True) from None
        reply = self._reply(completion, messages, structured)
        self.budget.add(reply)
        return reply

    def _body(self, messages: list[dict[str, str]], structured: str, schema: dict[str, Any] | None) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.config.model,
            "messages": messages,
            self.config.max_tokens_field: self.config.max_tokens,
        }
        if self.config.temperature is not None:
            body["temperature"] = self.config.temperature
        if self.config.extra_body:
            body["extra_body"] = self.config.extra_body
        if structured == "json_object":
            body["response_format"] = {"type": "json_object"}
        elif structured == "json_schema":
            wanted = {"name": "reply", "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": wanted}
        return body

    def _open(self) -> AsyncOpenAI:
        if self._client is None:
            self._key = api_key(self.config)
            self._client = async_client(self.config, self._key)
        return self._client

    def _reply(self, completion: Any, messages: list[dict[str, str]], structured: str) -> Reply:
        try:
            reply = taken_apart(completion, messages, structured)
        except ValueError as error:
            self.budget.add_lost(messages)
            raise AskError("malformed", str(error), retry=True) from None
        return replace(
            reply, text=self.clean(reply.text), thinking=self.clean(reply.thinking), model=self.clean(reply.model)
        )

    def _status_failure(self, error: APIStatusError) -> AskError:
        status = error.status_code
        detail = f"HTTP {status}: {self.clean(' '.join(error.message.split()))[:300]}"
        if status in (401, 402, 404) or error.code == "insufficient_quota":
            return AskError("refused", detail)
        if status == 429:
            return AskError("rate_limit", detail, retry=True, wait=retry_after(error.response.headers))
        if status in (408, 409) or status >= 500:
            return AskError("server_error", detail, retry=True, wait=retry_after(error.response.headers))
        policy = status == 403 or bool(_POLICY.search(f"{error.code} {detail}"))
        return AskError("rejected", detail, policy=policy)

    def _check_stopped(self) -> None:
        if self._stopped is not None:
            raise AskError(self._stopped.reason, self._stopped.detail)

    def _count_failure(self, failure: AskError) -> None:
        if self._stopped is not None or failure.reason in ("budget", "rejected"):
            return  # a rejected request says nothing about the others
        self._failed_in_a_row += 1
        if failure.reason == "refused":
            self._stopped = failure
        elif self._failed_in_a_row >= self.config.give_up_after:
            count = f"{self._failed_in_a_row} requests in a row failed"
            self._stopped = AskError("unreachable", f"{count}, the last with {failure}")

    def _delay(self, attempt: int, asked: float | None) -> float:
        backoff = min(self.config.backoff * 2**attempt, self.config.max_wait)
        if asked is not None:
            return asked + min(backoff, 1.0) * self._jitter.uniform(0.0, 0.1)
        return backoff * self._jitter.uniform(0.5, 1.0)

    def clean(self, text: str) -> str:
        """A text from the endpoint without the key, should it have been echoed."""
        return text.replace(self._key, "[key]") if self.config.api_key_env and self._key else text


def retry_after(headers: Any) -> float | None:
    """Seconds to wait by `Retry-After-Ms` or `Retry-After` (number or HTTP date, RFC 9110 §10.2.3), else None."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        with contextlib.suppress(TypeError, ValueError):
            seconds = float(headers.get(name)) / unit
            return seconds if 0 <= seconds < float("inf") else None
    with contextlib.suppress(TypeError, ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(headers.get("retry-after")).timestamp() - time.time())
    return None
