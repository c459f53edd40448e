"""Everyday reasoning: PIQA (Bisk et al. 2020), HellaSwag (Zellers et al. 2019), BoolQ (Clark et al. 2019)."""

from __future__ import annotations

from tasks.lm_eval_task import LmEvalTask
from tasks.rows import Fault, options_fault
from tasks.sources.base import Row, View


class Piqa(LmEvalTask):
    """Which of two ways reaches a goal."""

    def fault(self, row: Row) -> Fault | None:
        """The two ways differ."""
        return options_fault("sol2", [row["sol1"], row["sol2"]])

    def options(self, view: View) -> tuple[str, list[str]]:
        """Goal and ways."""
        return f"Question: {view['goal']}", [view["sol1"], view["sol2"]]


class HellaSwag(LmEvalTask):
    """Which of four sentences goes on. Labels are texts on the hub and numbers in the authors' files: both are read."""

    def fault(self, row: Row) -> Fault | None:
        """Four endings, none blank, no two alike."""
        return options_fault("endings", row["endings"], least=4, most=4)

    def item_id(self, row: Row, content: str) -> str:
        """`ind` with a hash of the content, since `ind` alone names several rows."""
        return f"{row['ind']}-{content}"

    def options(self, view: View) -> tuple[str, list[str]]:
        """Beginning and endings, cleaned by lm-eval."""
        return f"{view['query']}\nWhich ending is the best continuation?", view["choices"]


class BoolQ(LmEvalTask):
    """A yes-or-no question about a passage."""

    def view(self, row: Row) -> Row:
        """lm-eval's file wants SuperGLUE's `label`; without it every answer would silently count as wrong."""
        return {**row, "label": int(row["answer"])}
