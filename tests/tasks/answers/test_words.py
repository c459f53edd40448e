"""Yes, no or maybe: an answer's word is not the same letters in another use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.answers import named_word

ANSWERS = [
    ("There is no doubt: yes", "yes"),
    ("Yes", "yes"),
    ("No.", "no"),
    ("no. The", "no"),
    ("Maybe", "maybe"),
    ("No doubt, yes", "yes"),
    ("No evidence supports this.", ""),
    ("The answer is no", "no"),
    ("The answer is not yes", ""),
    ("Yes and no", ""),
    ("yes/no/maybe: no", "no"),
    ("Yes or no? Yes.", "yes"),
    ("I would say no", "no"),
    ("There is no difference, so the answer is no.", "no"),
    ("Is it effective? No.", "no"),
    ("No it does not", "no"),
    ("\\boxed{maybe}", "maybe"),
    ("Answer: **Yes**", "yes"),
    ("It is unclear, so maybe.", "maybe"),
    ("No significant difference was found. Yes.", "yes"),
    ("Yes, there is no difference", "yes"),
    ("yes, maybe in adults", "yes"),
    ("I am not sure, maybe.", "maybe"),
    ("The conclusion is: no, it does not.", "no"),
    ("No, not yes", "no"),
    ("", ""),
    ("The answer is yes. The answer is no.", ""),
    ("Probably yes", "yes"),
    ("Final answer: no", "no"),
    ('"yes"', "yes"),
    ("(no)", "no"),
    ("yes. Mitochondria have no role in no.", "yes"),
    ("Not known", ""),
    ("nobody knows", ""),
    ('{"answer": "no"}', "no"),
    ("With no, or little, effect", ""),
    ("NO", "no"),
    ("No - the trial failed", "no"),
    ("The answer, no doubt, is yes", "yes"),
    ("yesterday", ""),
    ("no\n", "no"),
    ("No\nThe data do", "no"),
    ("It is not clear whether the answer is yes or no", ""),
    ("Without doubt yes", "yes"),
    ("There is no question that it works", ""),
    ("It does: yes", "yes"),
    ("My verdict is maybe", "maybe"),
    ("I can't say yes", ""),
]


@pytest.mark.parametrize(("text", "word"), ANSWERS)
def test_an_answer_names_the_word_it_settles_on(text: str, word: str) -> None:
    assert named_word(text) == word


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert named_word(text) in ("", "yes", "no", "maybe")
