"""Connections to an endpoint: what is sent is ours alone, and goes to the configured address alone.

The `openai` client and its HTTP library read headers, proxies and credentials from the environment. Every request is
reduced here to a list of headers, a loopback endpoint is reached without any proxy, and a redirect that leaves the
address is refused before the question is sent there.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from tasks.judge.config import EndpointConfig

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

_OURS = frozenset(
    "host accept accept-encoding connection content-type content-length content-encoding transfer-encoding".split()  # noqa: SIM905
)
_PORTS = {"http": 80, "https": 443}


class LeftAddress(Exception):
    """The endpoint redirects to another host, port or to a connection without encryption."""


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name or number."""
    host = host.strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def async_client(config: EndpointConfig, key: str) -> AsyncOpenAI:
    """A client for many questions; close it."""
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    async def guard(request: Any) -> None:
        _guard(request, config, key)

    http = DefaultAsyncHttpxClient(
        trust_env=_trusts_environment(config), timeout=config.timeout, event_hooks={"request": [guard]}
    )
    return AsyncOpenAI(api_key=key, base_url=config.base_url, timeout=config.timeout, max_retries=0, http_client=http)


def client(config: EndpointConfig, key: str, timeout: float) -> OpenAI:
    """A client for one question; close it."""
    from openai import DefaultHttpxClient, OpenAI

    http = DefaultHttpxClient(
        trust_env=_trusts_environment(config),
        timeout=timeout,
        event_hooks={"request": [lambda request: _guard(request, config, key)]},
    )
    return OpenAI(api_key=key, base_url=config.base_url, timeout=timeout, max_retries=0, http_client=http)


def left_address(error: BaseException | None) -> bool:
    """Whether an error of the client was caused by a refused redirect."""
    while error is not None:
        if isinstance(error, LeftAddress):
            return True
        error = error.__cause__ or error.__context__
    return False


def _trusts_environment(config: EndpointConfig) -> bool:
    """Proxies and certificates of the environment are for hosts beyond this machine."""
    from urllib.parse import urlsplit

    return not is_loopback(urlsplit(config.base_url).hostname or "")


def _guard(request: Any, config: EndpointConfig, key: str) -> None:
    """Check where a request goes, and leave only our headers on it."""
    from urllib.parse import urlsplit

    wanted = urlsplit(config.base_url)
    scheme, host, port = request.url.scheme, request.url.host, request.url.port or _PORTS.get(request.url.scheme)
    here = (wanted.scheme, wanted.hostname, wanted.port or _PORTS[wanted.scheme])
    upgraded = here == ("http", host, 80) and (scheme, port) == ("https", 443)
    if (scheme, host.lower().strip("[]"), port) != here and not upgraded:
        raise LeftAddress(f"{config.host} redirects to {host}")
    for name in [name for name in request.headers if name.lower() not in _OURS]:
        del request.headers[name]
    request.headers["Authorization"] = f"Bearer {key}"
    request.headers["User-Agent"] = "lora-harness"
