"""MBPP (Austin et al. 2021): small programs from a sentence and three asserts."""

from __future__ import annotations

import ast
import builtins
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from tasks.base import ChatTemplate, Doc, TaskSettings
from tasks.code_task import CodeBound, CodeTask
from tasks.fewshot import FewShot
from tasks.row_task import LoadedRows
from tasks.rows import Fault
from tasks.sandbox import Program
from tasks.sources.base import Row


class PublishedExamples(FewShot):
    """The three examples of the paper's prompt (task ids 2, 3 and 4), in lm-eval's order."""

    def __init__(self) -> None:
        super().__init__("mbpp", [], 3, "fixed")

    def examples(self, doc: Doc, seed: int) -> list[Doc]:
        """Always the same three: they are in no other part."""
        return published_examples()


class MbppBound(CodeBound):
    """MBPP with three fixed shots takes the published examples; other numbers are drawn as for every task."""

    def __init__(
        self,
        task: Mbpp,
        rows: LoadedRows,
        source: str,
        settings: TaskSettings,
        chat: ChatTemplate | None,
        lm: Any,
    ) -> None:
        super().__init__(task, rows, source, settings, chat, lm)
        if settings.shots == 3 and settings.fewshot == "fixed":
            self._fewshot = PublishedExamples()


class Mbpp(CodeTask):
    """MBPP; the answer is a whole program."""

    bound_class = MbppBound
    gold = "{{code}}\n[DONE]"
    instruct_file = "mbpp/mbpp_instruct.yaml"
    instruct_gold = "{{code}}\n```"

    def fault(self, row: Row) -> Fault | None:
        """Reference, set-up and asserts are Python."""
        for field in ("code", "test_setup_code"):
            if not is_python(row[field]):
                return field, row[field], "Python that parses"
        wrong = next((test for test in row["test_list"] if not is_python(test)), None)
        return None if wrong is None else ("test_list", wrong, "asserts that parse")

    def program(self, doc: Doc, answer: str) -> Program:
        """The answer alone; the asserts are handed to it one call at a time.

        The published check runs in the answer's namespace. So what the asserts name and do not bind themselves is the
        answer's to define; where the reference imports it (`sys` in task 596), the answer has to bind the name and the
        check uses its own module.
        """
        row = doc.row
        tests = "\n".join([row["test_setup_code"], *row["test_list"]])
        names = [node for node in ast.walk(_parsed(tests)) if isinstance(node, ast.Name)]
        bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        reference = _parsed(row["code"]).body
        imports = [node for node in reference if isinstance(node, ast.Import | ast.ImportFrom)]
        imported = {name for node in imports for name in _bound_by(node)}
        defined = {node.name for node in reference if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        free = sorted({node.id for node in names} - bound)
        return Program(
            id=doc.id,
            code=answer,
            tests=tests,
            functions=tuple(n for n in free if n in defined or not (n in imported or hasattr(builtins, n))),
            setup="\n".join(ast.unparse(node) for node in imports if _bound_by(node) & set(free)),
            needed=tuple(name for name in free if name in imported and name not in defined),
            reference=row["code"],
        )


def is_python(code: str) -> bool:
    """Whether a text parses."""
    try:
        _parsed(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _parsed(code: str) -> ast.Module:
    """Published programs hold escapes that Python warns about; that is nobody's to mend here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        return ast.parse(code)


def _bound_by(node: ast.Import | ast.ImportFrom) -> set[str]:
    return {alias.asname or alias.name for alias in node.names}


@cache
def published_examples() -> list[Doc]:
    """Read from the source of lm-eval's helper, which cannot be imported: importing it loads a metric from the hub."""
    import lm_eval

    helper = Path(lm_eval.__file__).parent / "tasks/mbpp/utils.py"
    for node in ast.parse(helper.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == "list_fewshot_samples":
            (returned,) = [part.value for part in node.body if isinstance(part, ast.Return) and part.value]
            return [Doc(str(row["task_id"]), row) for row in ast.literal_eval(returned)]
    raise LookupError(f"{helper} has no list_fewshot_samples: this version of lm-eval is not supported.")
