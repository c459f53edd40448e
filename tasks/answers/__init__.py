"""What a free answer settles on: an option, a word such as yes, or a number; empty where it settles on nothing.

The rules, in the order in which they decide, stand in docs/answers.md:

1. what is marked as the result: a box, `####`, `<answer>`, "final answer";
2. a statement: "the answer is C", "I would choose C", "C is correct", "the best next step is a beta blocker";
3. a label that opens the text: `C) Beta blocker`;
4. the labels `(C)`, `option C` and the words of options that occur anywhere.

The first of them that names anything decides. Where it names two different options, none is settled on, unless the
later one revises the earlier ("no, wait", "therefore"). What is denied ("not C", "rather than B", "C is wrong") or
asked ("A?") is not named. A letter that belongs to a name or is an article ("vitamin C", "C-reactive", "a diuretic")
is no label.
"""

from tasks.answers.numbers import final_number, same_number
from tasks.answers.options import named_option
from tasks.answers.words import named_word

__all__ = ["final_number", "named_option", "named_word", "same_number"]
