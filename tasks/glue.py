"""GLUE (Wang et al. 2019): sentence and sentence-pair classification with fixed verbal labels."""

from __future__ import annotations

from tasks.lm_eval_task import LmEvalTask
from tasks.rows import Fault
from tasks.sources.base import Row


class Glue(LmEvalTask):
    """One GLUE task. Test labels are hidden, so validation is evaluated, as everybody does."""

    def fault(self, row: Row) -> Fault | None:
        """At least one side of a pair says something; published pairs may lack the other."""
        texts = [(column, row[column]) for column in self.card.inputs]
        return None if any(text.strip() for _, text in texts) else (*texts[0], "a text that is not empty")

    def item_id(self, row: Row, content: str) -> str:
        """`idx` with a hash of the content, since `idx` restarts in every split."""
        return f"{row['idx']}-{content}"
