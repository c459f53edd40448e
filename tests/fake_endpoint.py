"""A chat endpoint in this process that answers as it is told, faults included."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass(frozen=True)
class Say:
    """A chat completion."""

    text: str | None
    thinking: str | None = None
    model: str = "judge-2026-01"
    finish: str = "stop"
    usage: tuple[int, int] | None = (100, 20)
    delay: float = 0.0

    def body(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.thinking is not None:
            message["reasoning_content"] = self.thinking
        completion: dict[str, Any] = {
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": self.model,
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish}],
        }
        if self.usage:
            prompt, reply = self.usage
            completion["usage"] = {
                "prompt_tokens": prompt,
                "completion_tokens": reply,
                "total_tokens": prompt + reply,
            }
        return completion


@dataclass(frozen=True)
class Fail:
    """An HTTP status."""

    status: int
    message: str = "no"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Hang:
    """Blank lines to keep the connection alive, and no reply."""

    seconds: float


@dataclass(frozen=True)
class Cut:
    """The connection ends after so many bytes of a valid response."""

    after: int


@dataclass(frozen=True)
class Garbage:
    """A response with status 200 that is no chat completion."""

    body: bytes
    kind: str = "application/json"


Action = Say | Fail | Hang | Cut | Garbage


def verdict(score: float, reason: str = "because") -> str:
    """The text of a well-formed verdict."""
    return json.dumps({"score": score, "reason": reason})


@dataclass(frozen=True)
class Asked:
    """One request that arrived: the question in it, how often it had come before, body, headers, and the action."""

    question: str
    nth: int
    body: dict[str, Any]
    headers: dict[str, str]
    action: Action


class FakeEndpoint:
    """`answer(question, nth, body)` decides; `log` has every request."""

    def __init__(self) -> None:
        self.answer: Callable[[str, int, dict[str, Any]], Action] = lambda question, nth, body: Say(verdict(50))
        self.models: Action | None = None
        self.log: list[Asked] = []
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        endpoint = self

        class Handler(_Handler):
            fake = endpoint

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 256

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients that went away (time-outs, kills) are part of the tests."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def said(self, question: str) -> int:
        """Chat completions given to a question."""
        return sum(asked.question == question and isinstance(asked.action, Say) for asked in self.log)

    def decide(self, body: dict[str, Any], headers: dict[str, str]) -> Action:
        text = body["messages"][-1]["content"]
        match = re.search(r"<question>\n(.*?)\n</question>", text, re.DOTALL)
        question = match[1] if match else text
        with self._lock:
            nth = self._seen[question]
            self._seen[question] += 1
        action = self.answer(question, nth, body)
        with self._lock:
            self.log.append(Asked(question, nth, body, headers, action))
        return action

    def hang(self, seconds: float) -> None:
        self._closing.wait(seconds)

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeEndpoint

    def do_GET(self) -> None:
        match self.fake.models:
            case Fail() as failure:
                self._send(failure.status, b"{}", headers=failure.headers)
            case _:
                self._send(200, json.dumps({"object": "list", "data": []}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        match self.fake.decide(body, {name.lower(): value for name, value in self.headers.items()}):
            case Say() as say:
                time.sleep(say.delay)
                self._send(200, json.dumps(say.body()).encode())
            case Fail() as failure:
                error = {"error": {"message": failure.message, "type": "t", "code": None}}
                self._send(failure.status, json.dumps(error).encode(), headers=failure.headers)
            case Garbage() as garbage:
                self._send(200, garbage.body, kind=garbage.kind)
            case Cut() as cut:
                payload = json.dumps(Say(verdict(1)).body()).encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
                self.connection.sendall((head.encode() + payload)[: cut.after])
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            case Hang() as hang:
                self._hang(hang.seconds)

    def _hang(self, seconds: float) -> None:
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.wfile.write(head.encode())
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.wfile.write(b"1\r\n\n\r\n")
            self.wfile.flush()
            self.fake.hang(0.05)
        self.close_connection = True

    def _send(
        self, status: int, payload: bytes, kind: str = "application/json", headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(payload)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    fake = FakeEndpoint()
    yield fake
    fake.close()
