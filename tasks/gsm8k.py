"""GSM8K (Cobbe et al. 2021): grade-school word problems with worked answers that end in `#### number`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tasks.answers import same_number
from tasks.base import Doc, ScoredItem
from tasks.lm_eval_task import LmEvalBound, LmEvalTask

NUMERIC = "exact_match_numeric"


class Gsm8kBound(LmEvalBound):
    """Strict and flexible answer extraction are lm-eval's; `exact_match_numeric` compares numbers as numbers."""

    def score_texts(self, doc: Doc, texts: Sequence[str]) -> ScoredItem:
        """lm-eval's two filters, and whether the answer ends in the gold number whatever the way of writing it."""
        item = super().score_texts(doc, texts)
        right = same_number(texts[0], self.gold_text(doc))
        return replace(item, metrics={**item.metrics, NUMERIC: float(right)})

    def gold_text(self, doc: Doc) -> str:
        """The number after `####`."""
        return str(doc.row["answer"]).rpartition("####")[2].strip()


class Gsm8k(LmEvalTask):
    """GSM8K; the training target is the full worked answer."""

    bound_class = Gsm8kBound
