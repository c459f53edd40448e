"""HumanEval (Chen et al. 2021): functions to be completed from signature and docstring."""

from __future__ import annotations

from tasks.base import Doc
from tasks.code_task import CodeTask
from tasks.mbpp import is_python
from tasks.rows import Fault
from tasks.sandbox import Program
from tasks.sources.base import Row


class HumanEval(CodeTask):
    """HumanEval; the answer continues the prompt, and the prompt's own helpers serve the check."""

    only_evaluated = True  # its expert learns from mbpp
    gold = "{{canonical_solution}}"
    instruct_file = "humaneval/humaneval_instruct.yaml"

    def fault(self, row: Row) -> Fault | None:
        """The reference solution completes the prompt to a function of the entry point's name, and the check parses."""
        if not row["entry_point"].isidentifier() or f"def {row['entry_point']}(" not in row["prompt"]:
            return "entry_point", row["entry_point"], "the name of the function that the prompt begins"
        if not is_python(row["prompt"] + row["canonical_solution"]):
            return "canonical_solution", row["canonical_solution"], "Python that completes the prompt"
        if not is_python(row["test"]) or "def check(" not in row["test"]:
            return "test", row["test"], "Python that defines check"
        return None

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
