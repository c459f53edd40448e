"""FLAN's prompts of five GLUE tasks, for models and LoRAs that were trained on them.

Flan-T5 and the public LoRAs made for it saw these tasks in templates of the FLAN collection, with a list of options and
verbal answers. Each task has ten templates there; this is the first one that asks for the answer in the collection's
original form (google-research/FLAN, flan/templates.py, Apache-2.0; Wei et al. 2021, arXiv 2109.01652, and Longpre et
al. 2023, arXiv 2301.13688).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class FlanPrompt:
    """A template of the row's columns, and the answers in the order of the labels."""

    question: str
    answers: tuple[str, ...]

    def text(self, row: Mapping[str, object]) -> str:
        """The prompt of a row, with its list of options."""
        options = "".join(f"\n- {answer}" for answer in self.answers)
        return f"{self.question.format_map(row)}OPTIONS:{options}"


FLAN: Mapping[str, FlanPrompt] = {
    "sst2": FlanPrompt(
        "Review:\n{sentence}\nIs this movie review sentence negative or positive?\n", ("negative", "positive")
    ),
    "cola": FlanPrompt(
        'Sentence: "{sentence}"\nWould a linguist rate this sentence to be acceptable linguistically?\n\n',
        ("unacceptable", "acceptable"),
    ),
    "mrpc": FlanPrompt(
        "Here are two sentences:\n{sentence1}\n{sentence2}\nDo they have the same meaning?\n", ("no", "yes")
    ),
    "qqp": FlanPrompt("{question1}\n{question2}\nWould you say that these questions are the same?\n", ("no", "yes")),
    "rte": FlanPrompt(
        '{sentence1}\n\nBased on the paragraph above can we conclude that "{sentence2}"?\n\n', ("yes", "no")
    ),
}
"""By the name of the task."""
