"""AI2 Reasoning Challenge (Clark et al. 2018): grade-school science, easy and challenge sets."""

from __future__ import annotations

from tasks.lm_eval_task import LmEvalTask
from tasks.sources.base import View


class Arc(LmEvalTask):
    """ARC; options can be listed as letters A to E whatever the published labels are."""

    def options(self, view: View) -> tuple[str, list[str]]:
        """Question and options."""
        return f"Question: {view['question']}", view["choices"]["text"]
