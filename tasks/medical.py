"""Medical questions with options: MedQA (Jin et al. 2021), MedMCQA (Pal et al. 2022), PubMedQA (Jin et al. 2019).

All three are scored by likelihood here. A free-text variant for a judge subclasses `MedQa` or `PubMedQa` with a
generative `config` and `score_texts`; `gold_answer` is what a judge compares with.
"""

from __future__ import annotations

from typing import Any, ClassVar

from tasks.base import TaskSettings
from tasks.lm_eval_task import LmEvalTask
from tasks.pubmedqa_split import TEST_IDS
from tasks.rows import Fault, options_fault, shown
from tasks.sources.base import Row, Source, View


class MedQa(LmEvalTask):
    """US medical licensing questions with four options; lm-eval's prompt lists them and scores the letter."""

    letters: ClassVar[str] = "ABCD"

    def canonical(self, row: Row) -> Row:
        """The hub has the rows in two layouts; `sent1`, `ending0` to `ending3`, `label` is the other."""
        if "ending0" not in row:
            return row
        options = {letter: row.get(f"ending{i}") for i, letter in enumerate("ABCD")}
        label = row.get("label")
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < len(options):
            # Its own fault names the letter; the label as it is says more.
            return {"question": row.get("sent1"), "answer": "?", "options": options, "answer_idx": shown(label)}
        letter = "ABCD"[label]
        return {"question": row.get("sent1"), "answer": options[letter], "options": options, "answer_idx": letter}

    def fault(self, row: Row) -> Fault | None:
        """Options under the letters from A, the gold one among them and equal to the answer in words."""
        options, letter = row["options"], row["answer_idx"]
        if list(options) != list(self.letters):
            return (
                "options",
                options,
                f"options under the letters {self.letters[0]} to {self.letters[-1]}, in this order",
            )
        if wrong := options_fault("options", list(options.values())):
            return wrong
        if letter not in options:
            return "answer_idx", letter, f"one of the letters {', '.join(options)}"
        if row["answer"].strip() != options[letter].strip():
            return "answer", row["answer"], f"the words of option {letter}"
        return None

    def view(self, row: Row) -> Row:
        """The layout that lm-eval's file reads."""
        endings = {f"ending{i}": text for i, text in enumerate(row["options"].values())}
        return {"sent1": row["question"], **endings, "label": list(row["options"]).index(row["answer_idx"])}

    def gold_answer(self, row: Row) -> str:
        """The gold option with its letter, `C. Reassurance`, for people and judges."""
        return f"{row['answer_idx']}. {row['options'][row['answer_idx']]}"


class MedQa5(MedQa):
    """MedQA as published, with five options: another task, whose scores don't compare with four options."""

    letters = "ABCDE"

    def config(self, settings: TaskSettings) -> dict[str, Any]:
        """The four-option task with a fifth line and letter."""

        def text(view: View) -> str:
            listed = "".join(f"{letter}. {view[f'ending{i}']}\n" for i, letter in enumerate("ABCDE"))
            return f"Question: {view['sent1']}\n{listed}Answer:"

        return super().config(settings) | {"doc_to_text": text, "doc_to_choice": list("ABCDE")}


class MedMcqa(LmEvalTask):
    """MedMCQA. The published rows hold 21 with two equal options; since letters are scored, they stay."""


class PubMedQa(LmEvalTask):
    """Yes, no or maybe: a research question and its abstract without the conclusion."""

    def read_splits(self, source: Source) -> dict[str, list[Row]]:
        """The hub has all expert-labelled rows in one split; the authors' list of test ids divides them."""
        splits = super().read_splits(source)
        if "test" not in splits:
            rows = splits["train"]
            splits["train"] = [row for row in rows if str(row.get("pubid")) not in TEST_IDS]
            splits["test"] = [row for row in rows if str(row.get("pubid")) in TEST_IDS]
        return splits

    def fault(self, row: Row) -> Fault | None:
        """The abstract is a list of texts."""
        contexts = row["context"].get("contexts")
        wrong = None if contexts else ("context.contexts", contexts, "a list of texts")
        return wrong or options_fault("context.contexts", contexts, least=1, most=1000, twins=True)

    def view(self, row: Row) -> Row:
        """Column names of the authors' own files, which lm-eval's file reads."""
        return {**row, "QUESTION": row["question"], "CONTEXTS": row["context"]["contexts"]}

    def gold_answer(self, row: Row) -> str:
        """The verdict with the abstract's conclusion, for people and judges."""
        return f"{row['final_decision']}. {row['long_answer']}"
