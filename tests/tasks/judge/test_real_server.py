"""The documented local server, with the bundled model: a poor judge, the true protocol."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.judge import JudgeConfig, JudgeItem, check, judge

pytestmark = [
    pytest.mark.model,
    pytest.mark.system,
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("fastapi", "uvicorn")),
        reason="the extra 'serving' is not installed",
    ),
]


@pytest.fixture(scope="module")
def server(smollm_path: Path) -> Iterator[JudgeConfig]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(smollm_path)]
    process = subprocess.Popen(
        [*command, "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    config = JudgeConfig(
        preset="local", base_url=f"http://127.0.0.1:{port}/v1", model=str(smollm_path), max_tokens=32, attempts=1
    )
    try:
        deadline = time.monotonic() + 120
        while not _healthy(port):
            assert process.poll() is None, "the server ended by itself"
            assert time.monotonic() < deadline, "the server did not start in two minutes"
            time.sleep(0.2)
        yield config
    finally:
        process.terminate()
        process.wait(timeout=20)


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def test_every_answer_ends_scored_or_counted(server: JudgeConfig, tmp_path: Path) -> None:
    check(server, timeout=60)
    items = [
        JudgeItem("right", "Which vitamin deficiency causes scurvy?", "Vitamin C deficiency.", "Vitamin C", exact=True),
        JudgeItem("wrong", "Which vitamin deficiency causes scurvy?", "Bananas.", "Vitamin C", exact=False),
    ]
    report = judge(items, server, cache=tmp_path)
    assert sum(report.counts.values()) == 2
    assert set(report.counts) <= {"scored", "unparsable", "empty", "truncated"}, "the protocol itself has no faults"
    (model,) = report.models
    assert server.model in model
    assert (report.requests, report.retries) == (2, 0)
    assert report.prompt_tokens > 500
    assert not report.tokens_estimated
    assert judge(items, server, cache=tmp_path).requests == 0


def test_a_wrong_model_name_is_counted(server: JudgeConfig, tmp_path: Path) -> None:
    other = server.model_copy(update={"model": "another-model"})
    report = judge([JudgeItem("i", "q", "a")], other, cache=tmp_path)
    assert report.counts["scored"] == 0
    assert sum(report.counts.values()) == 1
