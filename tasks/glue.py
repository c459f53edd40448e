"""GLUE (Wang et al. 2019): sentence and sentence-pair classification with fixed verbal labels."""

from __future__ import annotations

from tasks.lm_eval_task import LmEvalTask
from tasks.sources.base import Row


class Glue(LmEvalTask):
    """One GLUE task. Test labels are hidden, so validation is evaluated, as everybody does."""

    def item_id(self, row: Row, content: str) -> str:
        """`idx` with a hash of the content, since `idx` restarts in every split."""
        return f"{row['idx']}-{content}"
