"""Numbers that end an answer, in whatever way they are written, beside lm-eval's filters, which compare text."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import registry
from tasks.answers import final_number, same_number
from tasks.base import TaskSettings
from tasks.sources import DirectorySource

ANSWERS = [
    ("$18.00", "18", True),
    ("1 000", "1,000", True),
    ("18 (that is 9 + 9)", "18", True),
    ("−18", "-18", True),
    ("18.", "18", True),
    ("#### 18", "18", True),
    ("The answer is $18$ dollars", "18", True),
    ("\\boxed{18}", "18", True),
    ("1,000", "1000", True),
    ("1 000", "1000", True),
    ("1 000 apples", "1000", True),
    ("3/4", "0.75", True),
    ("18%", "18", True),
    ("18 or 19", "18", False),
    ("The answer is 18 or 19", "18", False),
    ("$1,000.50", "1000.5", True),
    ("€ 18", "18", True),
    ("She makes 9*2 = $18 every day.", "18", True),
    ("9 + 9 = 18", "18", True),
    ("-$18", "-18", True),
    ("$-18", "-18", True),
    ("(18)", "18", True),
    ("18,000,000", "18000000", True),
    ("2^100000000", "100000000", True),
    ("1.000", "1000", False),
    ("1.000", "1", True),
    ("18,50", "18", False),
    ("1e3", "1000", True),
    ("US$18", "18", True),
    ("*18*", "18", True),
    ("**$18**", "18", True),
    ("\\frac{36}{2}", "18", True),
    ("\\boxed{\\frac{36}{2}}", "18", True),
    ("1 1/2", "1.5", True),
    ("18.0 minutes", "18", True),
    ("10-18", "18", True),
    ("The answer is 18. Next: 5 apples", "18", True),
    ("#### 18\n#### 19", "19", True),
    ("18 dollars", "18", True),
    ("", "18", False),
    ("eighteen", "18", False),
    ("The answer is 17", "18", False),
    ("#### 18 (9+9)", "18", True),
    ("#### 9 + 9 = 18", "18", True),
    ("The answer is 18 because 9 + 9", "18", True),
    ("In 2020 300 people", "300", True),
    ("1,2,3", "3", False),
    ("18/0", "18", False),
    ("1'000", "1000", True),
    ("x = 18", "18", True),
    ("The answer is: 18 dollars.\n\nQuestion", "18", True),
    ("18.5", "18", False),
    ("180", "18", False),
    (".5", "0.5", True),
    ("018", "18", True),
    ("The final answer is 18 km/h", "18", True),
    ("Answer: 18", "18", True),
    ("answer - 18", "18", True),
    ("£18", "18", True),
    ("18!", "18", True),
    ("-18", "18", False),
    ("９", "9", True),
    ("99999999999999999999", "99999999999999999999", True),
]


@pytest.mark.parametrize(("text", "gold", "right"), ANSWERS)
def test_numbers_are_compared_as_numbers(text: str, gold: str, right: bool) -> None:
    assert same_number(text, gold) is right


@pytest.mark.parametrize("text", ["9^9^9^9", "\\boxed{9^{9^{9^9}}}", "2**10**10", "1e99", "9" * 100_000, "(" * 50_000])
def test_nothing_is_worked_out_that_does_not_end(text: str) -> None:
    assert not same_number(text, "18")


def test_it_needs_no_signal_so_any_thread_may_score() -> None:
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(same_number("$21.00", "21")))
    thread.start()
    thread.join()
    assert found == [True]


@given(st.integers(-(10**12), 10**12))
def test_every_whole_number_is_itself_with_separators_currency_and_a_full_stop(number: int) -> None:
    for text in (f"#### {number}", f"The answer is {number:,}.", f"So it is ${number}.00", f"{number:,} apples"):
        assert same_number(text, str(number))


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert isinstance(final_number(text), str)


@pytest.mark.parametrize(
    ("text", "flexible", "strict", "numeric"),
    [
        ("She has 9 + 9 = 18.\n#### {gold}", 1, 1, 1),
        ("The answer is {gold}.", 1, 0, 1),
        ("#### ${gold}.00", 0, 0, 1),
        ("The answer is ${gold}.00", 0, 0, 1),
        ("The answer is {gold} (that is 9 + 9)", 0, 0, 1),
        ("#### {gold}.0", 0, 0, 1),
        ("\\boxed{{{gold}}} since 5 are left", 0, 0, 1),
        ("The answer is 1", 0, 0, 0),
    ],
)
def test_the_card_says_what_lm_evals_filters_miss(
    text: str, flexible: int, strict: int, numeric: int, written: DirectorySource
) -> None:
    bound = registry.create("gsm8k").bind(written, TaskSettings(limit=4))
    doc = next(doc for doc in bound.eval_docs() if len(bound.score(doc, ["x"]).gold) > 1)
    gold = bound.score(doc, ["x"]).gold
    metrics = bound.score(doc, [text.format(gold=gold.replace(",", ""))]).metrics
    assert metrics == {
        "exact_match_flexible": flexible,
        "exact_match_strict": strict,
        "exact_match_numeric": numeric,
    }


@pytest.mark.parametrize("text", [f"{'9' * 5000} 1/2", f"{'9' * 4299} 3/999999", f"#### {'1' * 9999} 1/3"])
def test_a_number_of_thousands_of_digits_is_read_without_working_it_out(text: str) -> None:
    assert final_number(text) == text.removeprefix("#### ").split()[0]
