"""AI2 Reasoning Challenge (Clark et al. 2018): grade-school science, easy and challenge sets."""

from __future__ import annotations

from tasks.lm_eval_task import LmEvalTask
from tasks.rows import Fault, options_fault
from tasks.sources.base import Row, View


class Arc(LmEvalTask):
    """ARC; options can be listed as letters A to E whatever the published labels are."""

    def fault(self, row: Row) -> Fault | None:
        """Texts and labels are two lists of one length, and the key is one of the labels."""
        choices = row["choices"]
        texts, labels = choices.get("text"), choices.get("label")
        if wrong := options_fault("choices.text", texts):
            return wrong
        if (
            not isinstance(labels, list)
            or len(labels) != len(texts)
            or len({str(label) for label in labels}) < len(labels)
        ):
            return "choices.label", labels, f"{len(texts)} labels that differ"
        if any(not isinstance(label, str) or not label.strip() for label in labels):
            return "choices.label", labels, "labels that are texts"
        if row["answerKey"] not in labels:
            return "answerKey", row["answerKey"], f"one of the labels {', '.join(labels)}"
        return None

    def options(self, view: View) -> tuple[str, list[str]]:
        """Question and options."""
        return f"Question: {view['question']}", view["choices"]["text"]
