"""HumanEval (Chen et al. 2021): functions to be completed from signature and docstring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.base import PARTS, Doc, Part
from tasks.code_task import CodeTask
from tasks.parts import KeyedDoc
from tasks.sandbox import Program


class HumanEval(CodeTask):
    """HumanEval; the answer continues the prompt, and the prompt's own helpers serve the check."""

    gold = "{{canonical_solution}}"
    instruct_file = "humaneval/humaneval_instruct.yaml"

    def divide(self, splits: Mapping[str, Sequence[KeyedDoc]]) -> tuple[dict[Part, list[Doc]], list[str]]:
        """Every row is evaluated: the expert that serves this task trains on another."""
        parts: dict[Part, list[Doc]] = {part: [] for part in PARTS}
        parts["eval"] = [row.doc for rows in splits.values() for row in rows]
        return parts, []

    def program(self, doc: Doc, answer: str) -> Program:
        """Prompt and answer; helpers such as `poly` come from the prompt."""
        row = doc.row
        return Program(
            id=doc.id,
            code=row["prompt"] + answer,
            tests=f"{row['test']}\ncheck({row['entry_point']})",
            functions=(row["entry_point"],),
            setup=row["prompt"],
            reference=row["prompt"] + row["canonical_solution"],
        )
