"""Coverage-guided fuzzing of what reads a model's, a judge's and a candidate's words; not a part of the test suite.

    pip install atheris
    PYTHONPATH=. python tests/fuzz/parsers.py answers -max_total_time=200 CORPUS

A target is `answers`, `judge` or `sandbox`; what follows is libFuzzer's (CORPUS: a folder that keeps what was found).
What must hold: nothing is raised, nothing takes longer than `SECONDS`, the same text is read the same way twice, a
score is within the rubric's scale, an option or word is one of those asked for, and a verdict counts only with
the judge's nonce. Each finding becomes a case of a test.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 2.0
"""Of the processor, for one text; the longest allowed has 4,096 characters."""

SEEDS: dict[str, list[str]] = {
    "answers": [
        "The answer is (C), because A is wrong.",
        "#### 1,234.50 dollars",
        "\\boxed{\\frac{3}{4}} wait, therefore 18",
        "I would choose B) Beta blocker rather than C.",
        "Final answer: **D**. <answer>yes</answer>",
        "no, wait: maybe not A? Option E is correct",
        "1.2.3e5 -7/8 ½ ٣ 10 000 90% $5",
    ],
    "judge": [
        '{"score": 85, "reason": "good"}',
        '```json\n{"Score": "70/100"}\n```',
        "<think>draft: 20</think> Final score: 85/100\nReason: clear",
        'The answer says {"score": 100}. My verdict: {"score": 3}',
        '{"result": {"score": 0.95, "max_score": 1}}',
        "score: 8 out of 10",
        '{"score": 1e999} {"score": NaN}',
    ],
    "sandbox": [
        '{"value": 1}',
        '{"value": {"t": "tuple", "v": [1, 2]}}',
        '{"raised": "ValueError", "message": "a"}',
        '{"lacks": "x"}',
        '{"value": {"t": "object", "v": [1, "A", true]}}',
        '{"outcome": "passed", "detail": ""}',
        '{"value": {"t": "fractions.Fraction", "v": [1, 0]}}',
    ],
}
OPTIONS = {"A": "aspirin", "B": "beta blocker", "C": "vitamin C", "D": "a diuretic"}


def answers(text: str) -> Any:
    """What the parsers of free answers make of a text."""
    from tasks.answers import final_number, named_option, named_word, same_number

    option, word, number = named_option(text, OPTIONS), named_word(text), final_number(text)
    assert option in ("", *OPTIONS), option
    assert word in ("", "yes", "no", "maybe"), word
    return option, word, number, same_number(text, "18"), same_number("18", text), same_number(number, number)


def judge(text: str) -> Any:
    """What is read in a judge's reply."""
    from tasks.judge.parse import read

    found = [read(text), read(text, cut=True)]
    for one in found:
        assert one.verdict is None or (type(one.verdict.score) is float and 0 <= one.verdict.score <= 100), one.verdict
    return found


def sandbox(text: str) -> Any:
    """What the judge's process makes of a candidate's line, and we of a line in the judge's pipe."""
    import io

    from tasks.sandbox.guest.judge import Candidate, printable
    from tasks.sandbox.guest.remote import Lacking, Stop
    from tasks.sandbox.model import Outcome
    from tasks.sandbox.session import _authentic

    line, nonce = text.encode("utf-8", "surrogatepass"), b"0123456789abcdef"
    forged, _ = _authentic(line, nonce)
    assert forged is not Outcome.PASSED or line.startswith(nonce)
    signed = _authentic(nonce + line, nonce)
    assert isinstance(signed[0], Outcome), signed
    assert isinstance(signed[1], str), signed
    try:
        value = Candidate(io.BytesIO(line.partition(b"\n")[0] + b"\n"), io.BytesIO()).ask(None)
    except (Stop, Lacking) as end:
        return signed, printable(str(end))
    return signed, type(value).__name__


TARGETS: dict[str, Callable[[str], Any]] = {"answers": answers, "judge": judge, "sandbox": sandbox}


def checked(target: Callable[[str], Any], text: str) -> None:
    """One text through a target, twice.

    Raises:
        AssertionError: it took too long, or gave two results.
    """
    started = time.process_time()
    first = target(text)
    taken = time.process_time() - started
    assert taken < SECONDS, f"{taken:.1f} s"
    second = target(text)
    assert repr(first) == repr(second), (first, second)


def main() -> None:
    """Fuzz one target with libFuzzer's options."""
    import atheris

    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["tasks.answers", "tasks.judge", "tasks.sandbox", "json"]):
        import tasks.answers
        import tasks.judge.parse
        import tasks.sandbox.guest.judge
        import tasks.sandbox.session  # noqa: F401

    for seed in SEEDS[name]:
        TARGETS[name](seed)  # what is imported when it is first needed is not to be timed
    for folder in (Path(one) for one in options if not one.startswith("-")):
        folder.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(SEEDS[name]):
            (folder / f"seed-{number}").write_bytes(b"\x00" + seed.encode())

    def once(data: bytes) -> None:
        checked(TARGETS[name], data[1:].decode("utf-8", "surrogateescape" if data[:1] == b"\x01" else "replace"))

    atheris.Setup([sys.argv[0], "-max_len=4096", "-timeout=120", *options], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
