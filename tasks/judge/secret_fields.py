"""Whether JSON data that will be stored looks like holding a secret, by the names of its fields or by its texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_WORDS = frozenset(
    """
    authorization authentication auth bearer secret secrets password passwords passwd passphrase pwd credential
    credentials cookie cookies jwt apikey apikeys accesskey authtoken accesstoken privatekey sas signature otp
    """.split()  # noqa: SIM905
)
_LAST = frozenset({"key", "token", "pat"})
_HARMLESS = frozenset(
    """
    prompt cache sort primary foreign idempotency stop eos bos pad unk sep cls mask special max min start end next first
    last per
    """.split()  # noqa: SIM905
)
"""Words before `key` or `token` that make it a name of something else: `prompt_cache_key`, `eos_token`."""
_TEXTS = re.compile(
    r"(?:sk|pk|rk)-[A-Za-z0-9_-]{8,}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|AKIA[A-Z0-9]{12,}|"
    r"AIza[A-Za-z0-9_-]{20,}|xox[abpr]-[A-Za-z0-9-]{8,}|gsk_[A-Za-z0-9]{16,}|eyJ[\w-]{8,}\.eyJ[\w-]{4,}\.[\w-]*|"
    r"(?i:(?:bearer|basic|token)\s+[A-Za-z0-9+/=._~-]{8,})|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


def holds_secret(value: Any) -> bool:
    """Whether nested JSON data has a field named as secrets usually are, or a text shaped like a key."""
    return any(is_secret_name(name) for name in _names(value)) or any(_TEXTS.search(text) for text in _strings(value))


def is_secret_name(name: str) -> bool:
    """Whether a field of this name usually holds a secret: `X-API-Key`, `hfToken`, `client_secret`, `pwd`."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]
    if not words:
        return False
    flat = "".join(words)
    if _WORDS & set(words) or re.search(r"api_?key|secret|passw|credential|authoriz", flat):
        return True
    if words[-1] not in _LAST:
        return flat.endswith(("apikey", "authtoken", "accesstoken", "accesskey", "bearertoken"))
    before = words[-2] if len(words) > 1 else ""
    return before not in _HARMLESS


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from map(str, value)
        # [{"name": "X-API-Key", "value": "..."}] is a header too.
        yield from (str(one) for name, one in value.items() if str(name).lower() in ("name", "header", "field"))
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _names(inner)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)
