"""Which option a free answer settles on: the rules of docs/answers.md, answer by answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.answers import named_option

TREATMENTS = {"A": "Rest", "B": "Thiazide diuretic", "C": "Beta blocker", "D": "Vitamin B12"}
ANSWERS = [
    ("The answer is a thiazide diuretic.", "B"),
    ("Answer: a beta blocker", "C"),
    ("The answer is (C).", "C"),
    ("The correct answer is option C.", "C"),
    ("answer is C) Beta blocker", "C"),
    ("C", "C"),
    ("C) Beta blocker", "C"),
    ("The answer is $\\boxed{C}$", "C"),
    ("I would choose C.", "C"),
    ("A: the answer is C", "C"),
    ("The answer is C, not B", "C"),
    ("The answer is B12", "D"),
    ("Not rest; give a beta blocker", "C"),
    ("B12", "D"),
    ("Answer - C", "C"),
    ("ANSWER: c", "C"),
    ("", ""),
    ("\\boxed{C}", "C"),
    ("\\boxed{\\text{C}}", "C"),
    ("\\boxed{\\textbf{(C)}}", "C"),
    ("$\\boxed{\\mathrm{C. Beta blocker}}$", "C"),
    ("The correct answer is: C", "C"),
    ("The correct answer is: **C**", "C"),
    ("**C**", "C"),
    ("(C) because", "C"),
    ("Option C", "C"),
    ("Option C: Beta blocker", "C"),
    ("C - Beta blocker", "C"),
    ("The answer is not C", ""),
    ("The answer is not C but B.", "B"),
    ("The answer is neither A nor B", ""),
    ("The answer cannot be C.", ""),
    ("The answer isn't C. It is B.", "B"),
    ("The answer is A or B", ""),
    ("A and C", ""),
    ("A, C", ""),
    ("A/C", ""),
    ("Both B and C are correct", ""),
    ("B or C? I would choose C.", "C"),
    ("The answer is A? No, the answer is (C).", "C"),
    ("The answer is A. The answer is C.", ""),
    ("The answer is A. No wait, the answer is C.", "C"),
    ("C is correct.", "C"),
    ("Option C is the right answer.", "C"),
    ("A beta blocker is the best choice", "C"),
    ("Only C fits.", "C"),
    ("I think C.", "C"),
    ("I'd go with C", "C"),
    ("It's C.", "C"),
    ("It must be C.", "C"),
    ("Therefore, C.", "C"),
    ("So the answer is C because B is contraindicated.", "C"),
    ("B is wrong. C.", "C"),
    ("B is tempting, but the answer is C.", "C"),
    ("Between B and C, I would choose C.", "C"),
    ("I would not choose C.", ""),
    ("I wouldn't pick C", ""),
    ("C is incorrect.", ""),
    ("Everything except C", ""),
    ("A beta blocker rather than a thiazide diuretic", "C"),
    ("a) Rest", "A"),
    ("a. rest", "A"),
    ("a", "A"),
    ("c", "C"),
    ("(c)", "C"),
    ("c) beta blocker", "C"),
    ("Vitamin C is needed", ""),
    ("Hepatitis B", ""),
    ("The answer is vitamin C", ""),
    ("The answer is C-reactive protein", ""),
    ("The answer is B cells", ""),
    ("The answer is C. difficile", ""),
    ("The answer is C. The patient is hypertensive.", "C"),
    ("The answer is C. Rest is not needed.", "C"),
    ("C) Rest", ""),
    ("The answer is E", ""),
    ("Answer: E. Rest", ""),
    ("None of the above", ""),
    ("I don't know", ""),
    ('{"answer": "C"}', "C"),
    ("<answer>C</answer>", "C"),
    ("#### C", "C"),
    ("Answer:\nC", "C"),
    ("Answer\n\nC", "C"),
    ("### Answer\nC) Beta blocker", "C"),
    ("Final Answer: C", "C"),
    ("Final answer: \\boxed{B}", "B"),
    ("Thiazide diuretic (B)", "B"),
    ("Thiazide diuretic (C)", ""),
    ("The answer is thiazide diuretic (B).", "B"),
    ("A. Rest\nB. Thiazide diuretic\nC. Beta blocker\nD. Vitamin B12", ""),
    ("A. Rest\nB. Thiazide diuretic\nC. Beta blocker\nD. Vitamin B12\nAnswer: C", "C"),
    ("A. Rest is wrong. B. Thiazide diuretic is right.", "B"),
    ("Beta blockers", "C"),
    ("beta-blocker", "C"),
    ("Give the patient rest and thiazide diuretic", ""),
    ("My answer: C.", "C"),
    ('The answer is "C".', "C"),
    ("The answer is: 'C'", "C"),
    ("The answer is option (C).", "C"),
    ("The best next step is a beta blocker, since rest failed.", "C"),
    ("Rest was tried. The best treatment is a thiazide diuretic.", "B"),
    ("A patient with hypertension should get a beta blocker.", "C"),
    ("A thiazide diuretic", "B"),
    ("The answer is A.", "A"),
    ("The answer is A because of fatigue", "A"),
    ("The answer is A thiazide diuretic", "B"),
    ("A", "A"),
    ("A.", "A"),
    ("I choose A", "A"),
    ("Answer: A beta blocker", "C"),
    ("It could be B or C.", ""),
    ("I am not sure, but C", "C"),
    ("There is no doubt: C", "C"),
    ("Not A, not B. C.", "C"),
    ("Not A or B, so C", "C"),
    ("<think>maybe B</think> C", "C"),
    ("<think>The answer is B</think>\nThe answer is C", "C"),
    ("The answer is likely C", "C"),
    ("The most likely answer is C", "C"),
    ("Choose C", "C"),
    ("C. Beta blocker\n\nExplanation: rest would not help and thiazide diuretic is second line.", "C"),
    ("The answer to the question is C.", "C"),
    ("The answer would be (C) Beta blocker.", "C"),
    ("The correct option is C", "C"),
    ("Correct answer = C", "C"),
    ("Ans: C", "C"),
    ("Ans. C", "C"),
    ("C is better than B", "C"),
    ("C over B", "C"),
    ("The answer is [C]", "C"),
    ("The answer is C.", "C"),
    ("The answer is C!", "C"),
    ("the correct choice is (c) beta blocker", "C"),
    ("the answer is b", "B"),
    ("the answer is d.", "D"),
    ("Answer:C", "C"),
    ("(A) is incorrect, (B) is incorrect, so (C)", "C"),
    ("We can rule out A and B. That leaves C.", "C"),
    ("Options A, B and D are wrong.", ""),
    ("C?", "C"),
    ("The answer is between A and C.", ""),
    ("Ｃ", "C"),
    ("The answer is obvious: C", "C"),
    ("C, because it lowers the heart rate", "C"),
    ("C because it lowers the heart rate", "C"),
    ("Letter C", "C"),
    ("I believe the correct answer is D", "D"),
    ("I'd say (D).", "D"),
    ("D is the answer.", "D"),
    ("The answer is the second one", ""),
    ("Thiazide", "B"),
    ("thiazide diuretics are first line", "B"),
    ("Group A streptococcus", ""),
]

ALIKE = {"A": "No treatment", "B": "Aspirin", "C": "Low-dose aspirin", "D": "Reassurance", "E": "10 mg"}
ALIKE_ANSWERS = [
    ("No treatment", "A"),
    ("no treatment is needed", "A"),
    ("Aspirin", "B"),
    ("low-dose aspirin.", "C"),
    ("Low dose aspirin", "C"),
    ("Aspirinoid", ""),
    ("The patient needs no aspirin", ""),
    ("Give 10 mg", "E"),
    ("10%", ""),
    ("Both reassurance and no treatment are right", ""),
    ("There is no need for reassurance. No treatment.", "A"),
    ("The answer is E", "E"),
    ("E. 10 mg", "E"),
    ("The answer is D because aspirin is contraindicated", "D"),
    ("Avoid aspirin; give reassurance", "D"),
    ("No", ""),
    ("I would start low-dose aspirin", "C"),
    ("The correct answer is A) No treatment", "A"),
    ("Aspirin is not indicated.", ""),
    ("E. coli", ""),
    ("110 mg", ""),
    ("0.10 mg", ""),
]

NAMES = {"A": "E. coli", "B": "C. difficile", "C": "Vitamin C", "D": "Hepatitis B", "E": "Group A streptococcus"}
NAME_ANSWERS = [
    ("C. difficile", "B"),
    ("The answer is C. difficile", "B"),
    ("The answer is B", "B"),
    ("Answer: Vitamin C", "C"),
    ("hepatitis B", "D"),
    ("E. coli", "A"),
    ("Group A streptococcus", "E"),
    ("A. E. coli", "A"),
    ("The answer is E", "E"),
    ("E. Group A streptococcus", "E"),
]


@pytest.mark.parametrize(("text", "letter"), ANSWERS)
def test_an_answer_names_the_option_it_settles_on(text: str, letter: str) -> None:
    assert named_option(text, TREATMENTS) == letter


@pytest.mark.parametrize(("text", "letter"), ALIKE_ANSWERS)
def test_options_whose_words_contain_each_other(text: str, letter: str) -> None:
    assert named_option(text, ALIKE) == letter


@pytest.mark.parametrize(("text", "letter"), NAME_ANSWERS)
def test_options_whose_words_hold_letters(text: str, letter: str) -> None:
    assert named_option(text, NAMES) == letter


@pytest.mark.parametrize("letter", TREATMENTS)
def test_the_training_target_is_read_as_its_option(letter: str) -> None:
    assert named_option(f" {letter}. {TREATMENTS[letter]}", TREATMENTS) == letter


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert named_option(text, TREATMENTS) in ("", *TREATMENTS)
