"""Making a set: what is stored, what goes on after a stop, and what is refused."""

from __future__ import annotations

import hashlib
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from tasks.crossdomain import GeneratorConfig, make_crossdomain
from tests.fake_endpoint import Fail, FakeEndpoint, Garbage, Say

_SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo", "zu")


def question(seed: int) -> str:
    """A made-up question that resembles no other."""
    draw = random.Random(seed)
    words = ["".join(draw.choices(_SYLLABLES, k=3)) for _ in range(20)]
    return f"How much {' '.join(words)} remains?"


def reply(seed: int, pairs: int, **changes: Any) -> str:
    entries = [
        {
            "pair": number,
            "question": question(100 * seed + number),
            "solution": f"By the law of {seed} and {number}, it follows.",
            "answer": f"{seed} mg",
        }
        | changes
        for number in range(1, pairs + 1)
    ]
    return json.dumps({"questions": entries})


def asked_for(body: dict[str, Any]) -> int:
    match = re.search(r"Write (\d+) questions", body["messages"][1]["content"])
    assert match is not None
    return int(match[1])


class Generator:
    """Answers the n-th distinct prompt with its own questions; prompts are told apart by their topics."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}

    def __call__(self, text: str, nth: int, body: dict[str, Any]) -> Say:
        return Say(reply(self.known.setdefault(text, len(self.known)), asked_for(body)), usage=(50, 200))


def config_for(endpoint: FakeEndpoint, **settings: Any) -> GeneratorConfig:
    defaults = {"preset": "generic", "base_url": endpoint.url, "model": "writer", "backoff": 0.01, "concurrency": 1}
    return GeneratorConfig(**(defaults | settings))


def test_a_set_is_stored_with_where_it_came_from(endpoint: FakeEndpoint, tmp_path: Path) -> None:
    endpoint.answer = Generator()
    seen: list[tuple[int, int]] = []
    made = make_crossdomain("math-medical", 10, tmp_path, config_for(endpoint), progress=lambda *at: seen.append(at))
    assert made.missing is None
    assert made.folder == tmp_path / "crossdomain" / "math-medical"
    assert seen == [(4, 10), (8, 10), (10, 10)]
    rows = [json.loads(line) for line in (made.folder / "test.jsonl").read_text().splitlines()]
    assert rows == list(made.rows)
    assert len({row["id"] for row in rows}) == 10
    assert set(rows[0]) == {"id", "question", "answer", "solution", "topics", "model", "batch"}
    facts = json.loads((made.folder / "set.json").read_text())
    assert facts["kind"] == "math-medical"
    assert facts["n"] == 10
    assert facts["models"] == {"judge-2026-01": 3}
    assert facts["tokens"] == {"prompt": 150, "completion": 600}
    assert facts["generator"]["model"] == "writer"
    assert facts["generator"]["temperature"] == 1.0
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", facts["made"])
    assert facts["sha256"] == hashlib.sha256((made.folder / "test.jsonl").read_bytes()).hexdigest()
    assert "Write {count} questions" in facts["prompt"]["user"]
    assert facts["prompt"]["topics"]["medicine"]
    assert endpoint.log[0].body["temperature"] == 1.0
    assert endpoint.log[0].body["response_format"] == {"type": "json_object"}


def test_a_finished_set_is_not_asked_for_again(endpoint: FakeEndpoint, tmp_path: Path) -> None:
    endpoint.answer = Generator()
    first = make_crossdomain("math-coding", 8, tmp_path, config_for(endpoint))
    before = (first.folder / "set.json").read_bytes()
    again = make_crossdomain("math-coding", 8, tmp_path, config_for(endpoint, api_key_env="NOT_SET"))
    assert again.rows == first.rows
    assert len(endpoint.log) == 2
    assert (first.folder / "set.json").read_bytes() == before


def test_a_larger_set_begins_with_the_smaller(endpoint: FakeEndpoint, tmp_path: Path) -> None:
    endpoint.answer = Generator()
    small = make_crossdomain("math-medical", 6, tmp_path, config_for(endpoint))
    large = make_crossdomain("math-medical", 14, tmp_path, config_for(endpoint))
    assert large.rows[:6] == small.rows
    assert len(endpoint.log) == 4, "14 questions are 4 requests in all, 2 of them asked before"


def test_a_stop_is_said_and_the_same_call_goes_on(endpoint: FakeEndpoint, tmp_path: Path) -> None:
    endpoint.answer = Generator()
    stopped = make_crossdomain("math-medical", 12, tmp_path, config_for(endpoint, budget_requests=2))
    assert stopped.missing is not None
    assert "budget of 2 requests" in stopped.missing
    assert len(stopped.rows) == 8
    assert not (stopped.folder / "test.jsonl").exists(), "half a set is never taken for a whole one"
    done = make_crossdomain("math-medical", 12, tmp_path, config_for(endpoint))
    assert done.missing is None
    assert done.rows[:8] == stopped.rows
    assert len(endpoint.log) == 3


def test_order_of_arrival_does_not_change_a_set(endpoint: FakeEndpoint, tmp_path: Path) -> None:
    generator = Generator()
    endpoint.answer = generator
    slow = make_crossdomain("math-medical", 16, tmp_path / "a", config_for(endpoint))
    endpoint.answer = lambda text, nth, body: Say(
        generator(text, nth, body).text, delay=0.2 / (1 + generator.known[text])
    )
    fast = make_crossdomain("math-medical", 16, tmp_path / "b", config_for(endpoint, concurrency=4))
    assert [row["id"] for row in fast.rows] == [row["id"] for row in slow.rows]


def test_near_duplicates_and_malformed_questions_are_counted_and_replaced(
    endpoint: FakeEndpoint, tmp_path: Path
) -> None:
    replies = [
        reply(1, 4),
        reply(1, 4).replace("remains?", "stays?"),
        "I cannot do that.",
        reply(2, 4, answer=""),
        reply(3, 4),
    ]
    endpoint.answer = lambda *_: Say(replies[min(len(endpoint.log), 4)])
    made = make_crossdomain("math-medical", 8, tmp_path, config_for(endpoint))
    assert made.missing is None
    assert made.rejected == {"near_duplicate": 4, "no_json": 1, "length": 4}
    assert json.loads((made.folder / "set.json").read_text())["rejected"] == made.rejected


def test_a_generator_that_repeats_itself_is_given_up(endpoint: FakeEndpoint, tmp_path: Path) -> None:
    endpoint.answer = lambda *_: Say(reply(1, 4))
    made = make_crossdomain("math-medical", 8, tmp_path, config_for(endpoint))
    assert made.missing == "only 4 questions of 10 replies could be kept"
    assert len(endpoint.log) == 10


@pytest.mark.parametrize("fault", [Fail(500), Garbage(b"{"), Fail(401)])
def test_an_endpoint_that_fails_leaves_what_came_before(
    endpoint: FakeEndpoint, tmp_path: Path, fault: Fail | Garbage
) -> None:
    generator = Generator()
    endpoint.answer = lambda text, nth, body: generator(text, nth, body) if len(endpoint.log) < 1 else fault
    made = make_crossdomain("math-medical", 8, tmp_path, config_for(endpoint, max_retries=1, structured="none"))
    assert made.missing is not None
    assert len(made.rows) == 4
    endpoint.answer = generator
    assert make_crossdomain("math-medical", 8, tmp_path, config_for(endpoint, structured="none")).missing is None


def test_another_generator_does_not_write_into_a_set(endpoint: FakeEndpoint, tmp_path: Path) -> None:
    endpoint.answer = Generator()
    make_crossdomain("math-medical", 4, tmp_path, config_for(endpoint))
    with pytest.raises(ValueError, match=r"a set made by writer on .* name another output folder"):
        make_crossdomain("math-medical", 4, tmp_path, config_for(endpoint, model="other"))


def test_changed_rows_are_noticed(endpoint: FakeEndpoint, tmp_path: Path) -> None:
    endpoint.answer = Generator()
    made = make_crossdomain("math-medical", 4, tmp_path, config_for(endpoint))
    rows = made.folder / "test.jsonl"
    rows.write_text(rows.read_text().replace("mg", "kg"))
    with pytest.raises(ValueError, match="not those that were made"):
        make_crossdomain("math-medical", 4, tmp_path, config_for(endpoint))


def test_thinking_before_the_questions_is_let_be(endpoint: FakeEndpoint, tmp_path: Path) -> None:
    endpoint.answer = lambda *_: Say(f'<think>{{"questions": []}}</think>{reply(5, 4)}')
    assert make_crossdomain("math-medical", 4, tmp_path, config_for(endpoint)).missing is None
