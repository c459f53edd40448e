"""GSM8K (Cobbe et al. 2021): grade-school word problems with worked answers that end in `#### number`."""

from __future__ import annotations

from tasks.base import Doc
from tasks.lm_eval_task import LmEvalBound, LmEvalTask


class Gsm8kBound(LmEvalBound):
    """Strict and flexible answer extraction are lm-eval's."""

    def gold_text(self, doc: Doc) -> str:
        """The number after `####`."""
        return str(doc.row["answer"]).rpartition("####")[2].strip()


class Gsm8k(LmEvalTask):
    """GSM8K; the training target is the full worked answer."""

    bound_class = Gsm8kBound
