"""The key reaches the endpoint's Authorization header and nothing else."""

from __future__ import annotations

import contextlib
import json
import logging
import zlib
from pathlib import Path
from typing import Any

import pytest

from tasks.judge import JudgeConfig, JudgeItem, judge
from tasks.judge.endpoint import Endpoint
from tests.fake_endpoint import Fail, FakeEndpoint, Say, verdict

KEY = "sk-canary-7f3a9b2e"


def everything_written(folder: Path) -> bytes:
    """All bytes under a folder, and what they unzip to wherever a zlib stream starts."""
    found = b""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            found += data
            at = data.find(b"\x78\x01")
            while at >= 0:
                unzipper = zlib.decompressobj()
                with contextlib.suppress(zlib.error):
                    found += unzipper.decompress(data[at:])
                at = data.find(b"\x78\x01", at + 1)
    return found


@pytest.fixture
def config(endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch) -> JudgeConfig:
    monkeypatch.setenv("CANARY_KEY", KEY)
    return JudgeConfig(
        preset="generic",
        base_url=endpoint.url,
        model="m",
        api_key_env="CANARY_KEY",
        backoff=0.01,
        max_retries=1,
        repeats=2,
    )


def test_no_byte_written_or_logged_holds_the_key(
    config: JudgeConfig, endpoint: FakeEndpoint, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Even when the endpoint repeats the key in replies, model ids and error messages."""

    def answer(question: str, nth: int, body: dict[str, Any]) -> Any:
        if question == "q0":
            return Fail(400, f"Incorrect key {KEY}")
        if question == "q1":
            return Fail(500, f"crashed while serving {KEY}")
        return Say(verdict(5, f"seen {KEY}"), thinking=f"the key is {KEY}", model=f"m-{KEY}")

    endpoint.answer = answer
    caplog.set_level(logging.DEBUG)
    items = [JudgeItem(f"id{n}", f"q{n}", f"a{n}", "g", exact=True) for n in range(5)]
    report = judge(items, config, cache=tmp_path / "cache")
    assert report.counts == {"scored": 3, "rejected": 1, "server_error": 1}
    (tmp_path / "record.json").write_text(json.dumps([report.summary(), *(v.extra() for v in report.verdicts)]))

    assert all(asked.headers["authorization"] == f"Bearer {KEY}" for asked in endpoint.log), "it was really in use"
    written = everything_written(tmp_path)
    assert b"[key]" in written, "the reader sees through the compression"
    assert KEY.encode() not in written
    assert KEY not in caplog.text
    assert KEY not in repr(report)
    assert KEY not in repr(config)
    assert KEY not in config.model_dump_json()


def test_an_unexpected_error_does_not_carry_the_key(
    config: JudgeConfig, endpoint: FakeEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import traceback

    def broken(self: Endpoint, *_: Any) -> Any:
        raise RuntimeError("bug")

    monkeypatch.setattr(Endpoint, "_reply", broken)
    with pytest.raises(RuntimeError) as raised:
        judge([JudgeItem("i", "q", "a")], config, cache=tmp_path)
    assert KEY not in "".join(traceback.format_exception(raised.value))
