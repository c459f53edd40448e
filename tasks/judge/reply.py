"""What came back from an endpoint, whatever form it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What an endpoint returned. `model` is the id that came back, `structured` the `response_format` it was given."""

    text: str
    thinking: str
    model: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    tokens_estimated: bool
    structured: str


_PLAINEST: dict[str, Any] = {
    "thinking": "",
    "model": "",
    "finish": "",
    "prompt_tokens": 0,
    "completion_tokens": 0,
    "tokens_estimated": True,
    "structured": "none",
}


def stored_reply(found: dict[str, Any] | None) -> Reply | None:
    """A reply as it was stored, by this version or an earlier one; None where it holds no text (it is asked anew).

    Fields that were not stored take their plainest value, those that are no longer known are passed over.
    """
    if found is None or not isinstance(found.get("text"), str):
        return None
    fields = {name: found[name] if type(found.get(name)) is type(value) else value for name, value in _PLAINEST.items()}
    return Reply(text=found["text"], **fields)


def taken_apart(completion: Any, messages: list[dict[str, str]], structured: str) -> Reply:
    """The reply in a chat completion of the client, which builds its objects without validation.

    Raises:
        ValueError: it is no chat completion.
    """
    choices: Any = getattr(completion, "choices", None)
    message = getattr(choices[0], "message", None) if isinstance(choices, list) and choices else None
    if message is None:
        raise ValueError("the body is no chat completion")
    text, inline = _content(getattr(message, "content", None))
    # DeepSeek and older vLLM call it `reasoning_content`, newer vLLM and routers `reasoning`.
    apart = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    thinking = "\n".join(part for part in (apart if isinstance(apart, str) else "", inline) if part)
    finish = str(getattr(choices[0], "finish_reason", None) or "")
    if not text and getattr(message, "refusal", None):
        finish = "content_filter"
    prompt_tokens, completion_tokens, estimated = _usage(completion, messages, text + thinking)
    return Reply(
        text=text,
        thinking=thinking,
        model=str(getattr(completion, "model", None) or ""),
        finish=finish,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        tokens_estimated=estimated,
        structured=structured,
    )


def estimated_tokens(text: str) -> int:
    """Tokens of a text where the endpoint counts none: four Latin characters each, one of any other script."""
    latin = sum(char.isascii() for char in text)
    return -(-latin // 4) + len(text) - latin


def question_tokens(messages: list[dict[str, str]]) -> int:
    """Estimated tokens of a chat."""
    return sum(estimated_tokens(message["content"]) for message in messages)


def _content(content: Any) -> tuple[str, str]:
    """Text and thinking of a message's content: a text, nothing, or a list of parts."""
    if isinstance(content, str) or content is None:
        return content or "", ""
    if not isinstance(content, list):
        raise ValueError("the body is no chat completion")
    text: list[str] = []
    thinking: list[str] = []
    for part in content:
        kind = "text" if isinstance(part, str) else str(_field(part, "type") or "text")
        found = part if isinstance(part, str) else _field(part, "text")
        if kind in ("text", "output_text") and isinstance(found, str):
            text.append(found)
        elif kind in ("thinking", "reasoning"):
            inner = _field(part, "thinking") or _field(part, "reasoning") or found
            thinking.append("".join(_content(inner)) if isinstance(inner, str | list) else "")
    return "".join(text), "\n".join(part for part in thinking if part)


def _usage(completion: Any, messages: list[dict[str, str]], reply: str) -> tuple[int, int, bool]:
    """Tokens of question and reply, and whether they are estimated because none or impossible ones are reported."""
    usage = getattr(completion, "usage", None)
    asked, said = _field(usage, "prompt_tokens"), _field(usage, "completion_tokens")
    if _is_count(asked) and asked > 0 and _is_count(said) and (said > 0 or not reply):
        return asked, said, False
    asked, said, total = question_tokens(messages), estimated_tokens(reply), _field(usage, "total_tokens")
    return asked, max(said, total - asked) if _is_count(total) else said, True


def _field(part: Any, name: str) -> Any:
    return part.get(name) if isinstance(part, dict) else getattr(part, name, None)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
