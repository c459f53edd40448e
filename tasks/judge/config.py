"""What a judge is asked with, and through which endpoint.

Fields that determine a verdict are told apart from those that only decide how it is fetched: `identity()` holds the
former, for the hash of a cell.
"""

from __future__ import annotations

import os
import re
from typing import Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator, model_validator

from results.ground.errors import HarnessError
from results.ground.settings import Settings
from tasks.judge.rubric import Rubric, load_rubric
from tasks.judge.secret_fields import holds_secret

DEFAULT_RUBRIC = "medical"
LOCAL_COMMAND = "transformers serve PATH"

PRESETS: dict[str, dict[str, Any]] = {
    "deepseek": {
        "base_url": "https://api.deepseek.com",
        "model": "deepseek-reasoner",
        "api_key_env": "DEEPSEEK_API_KEY",
        "max_tokens": 8192,
        "concurrency": 8,
    },
    "local": {"base_url": "http://127.0.0.1:8000/v1", "max_tokens": 512, "concurrency": 1, "timeout": 900.0},
    "generic": {},
}


JUDGE_VERSION = 2
"""Raised when our code changes how a judge is asked or read. 2: answers fenced, replies read strictly."""


class JudgeUnavailable(HarnessError, ValueError):
    """No key, no endpoint, or a key that the endpoint refuses. One sentence that names the mend."""


class EndpointConfig(Settings):
    """An OpenAI-compatible chat endpoint, what it is asked with, and how much may be asked.

    `preset` fills whatever is not given: `deepseek` (as in the paper), `local` (a server on this machine, started with
    `transformers serve PATH`; `model` is that PATH) or `generic` (`base_url` and `model` are required). The key itself
    is never a field: it is read from the environment variable `api_key_env` when a request is made.
    """

    # A mistaken value may be a key or hold one, so validation errors do not repeat it.
    model_config = ConfigDict(hide_input_in_errors=True)

    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS

    preset: Literal["deepseek", "local", "generic"] = "deepseek"
    base_url: str
    model: str
    api_key_env: str | None = None
    temperature: float | None = Field(default=0.0, ge=0)
    """None leaves it out, for models that refuse the parameter."""
    max_tokens: int = Field(default=1024, gt=0)
    """Longest reply in tokens, thinking included."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Name of the request's length limit; newer OpenAI models take only the second."""
    extra_body: dict[str, Any] = Field(default={})
    """Further fields of the request, e.g. `{"chat_template_kwargs": {"enable_thinking": false}}` for vLLM."""
    structured: Literal["json_object", "json_schema", "none"] = "json_object"
    """The `response_format` asked for: a hint, dropped when the endpoint rejects it."""

    concurrency: int = Field(default=4, gt=0)
    timeout: float = Field(default=300.0, gt=0)
    """Seconds for one whole request; empty keep-alive lines do not extend it."""
    max_retries: int = Field(default=6, ge=0)
    backoff: float = Field(default=1.0, ge=0)
    """Seconds before the first retry, doubled for each further one, with jitter."""
    max_wait: float = Field(default=120.0, gt=0)
    """Longest wait before a retry; an endpoint that asks for more is given up for this item."""
    give_up_after: int = Field(default=12, gt=0)
    """Items in a row that fail at the endpoint before the rest is left unscored."""
    budget_requests: int | None = Field(default=None, ge=0)
    """HTTP requests at most, retries included; None for no limit."""
    budget_tokens: int | None = Field(default=None, ge=0)
    """No request starts once this many tokens were used; those under way finish. None for no limit."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        preset = data.get("preset", "deepseek")
        filled = {**cls.presets.get(str(preset), {}), **data}
        for key in ("base_url", "model"):
            if preset in cls.presets and filled.get(key) is None:
                raise ValueError(_missing(str(preset), key))
        return filled

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("base_url must look like https://host/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("base_url must hold no user, password or query: put the key into a variable (api_key_env)")
        return value.rstrip("/")

    @field_validator("extra_body")
    @classmethod
    def _no_secret(cls, value: dict[str, Any]) -> dict[str, Any]:
        if holds_secret(value):
            raise ValueError("extra_body is stored and must hold no secret: put the key into a variable (api_key_env)")
        return value

    @model_validator(mode="after")
    def _our_fields_stay(self) -> Self:
        ours = {"model", "messages", "temperature", "response_format", "stream", "n", self.max_tokens_field}
        taken = sorted(name for name in self.extra_body if name.strip().lower() in ours)
        if taken:
            raise ValueError(
                f"extra_body must not replace {taken[0]}, which the judge sets itself: use its own key "
                "(model, temperature, max_tokens, structured) or leave it out"
            )
        return self

    @field_validator("api_key_env")
    @classmethod
    def _variable_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            raise ValueError("api_key_env is the name of an environment variable, not the key")
        return value

    @property
    def host(self) -> str:
        """Host and port of the endpoint."""
        return urlsplit(self.base_url).netloc

    @property
    def address(self) -> str:
        """The whole address: two models behind one gateway differ in its path only."""
        parts = urlsplit(self.base_url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        port = "" if parts.port in (None, {"http": 80, "https": 443}[parts.scheme]) else f":{parts.port}"
        return f"{parts.scheme}://{host}{port}{parts.path}"

    def asked_with(self) -> dict[str, Any]:
        """The fields that determine a reply, as JSON data: part of the key of every stored reply."""
        return {
            "address": self.address,
            "model": self.model,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "structured": self.structured,
            "extra_body": self.extra_body,
        }

    def asked_with_before(self) -> dict[str, Any] | None:
        """`asked_with` of earlier versions, which named the host alone: None where a host may serve several models."""
        if urlsplit(self.base_url).path not in ("", "/v1"):
            return None
        fields = self.asked_with()
        del fields["address"]
        return {"host": self.host, **fields}


class JudgeConfig(EndpointConfig):
    """A judge: an endpoint, a rubric and how often each answer is judged."""

    rubric: str | None = None
    """None takes the task's own (`with_rubric`), `medical` where no task is involved."""
    rubric_version: int | None = Field(default=None, gt=0)
    """None takes the newest version."""
    repeats: int = Field(default=1, gt=0)
    """Independent verdicts on each answer; two or more give Krippendorff's alpha."""
    attempts: int = Field(default=2, gt=0)
    """Replies asked for, at most, until one of them holds a verdict."""

    def with_rubric(self, name: str) -> Self:
        """The same with a task's rubric, unless one was chosen."""
        return self if self.rubric is not None else self.model_copy(update={"rubric": name})

    def load_rubric(self) -> Rubric:
        """The rubric that this judge is told.

        Raises:
            ValueError: there is none of that name or version.
        """
        return load_rubric(self.rubric or DEFAULT_RUBRIC, self.rubric_version)

    def identity(self) -> dict[str, Any]:
        """Everything that determines verdicts and nothing else, as JSON data: for the hash of a cell."""
        rubric = self.load_rubric()
        return {
            **self.asked_with(),
            "version": JUDGE_VERSION,
            "rubric": rubric.label,
            "rubric_digest": rubric.digest,
            "repeats": self.repeats,
            "attempts": self.attempts,
        }


def api_key(config: EndpointConfig) -> str:
    """The key, read from the environment now; a placeholder where the endpoint needs none.

    Raises:
        JudgeUnavailable: the variable is not set, or what it holds cannot be a key.
    """
    if config.api_key_env is None:
        return "none"
    key = os.environ.get(config.api_key_env, "").strip()
    if not key:
        raise JudgeUnavailable(
            f"The judge at {config.host} needs a key: set {config.api_key_env}, "
            f"or start a server with `{LOCAL_COMMAND}` and choose the preset 'local'."
        )
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise JudgeUnavailable(f"{config.api_key_env} does not hold a key: set it to one word of printable characters.")
    return key


def _missing(preset: str, key: str) -> str:
    if preset == "local" and key == "model":
        return f"model is missing: give the PATH that the server was started with (`{LOCAL_COMMAND}`)"
    return f"{key} is missing: the preset '{preset}' has none, so name it"
