"""One class of mistakes: what is the user's derives from `HarnessError`, and nothing translates it by hand."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from results.ground.errors import HarnessError

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("harness", "methods", "tasks", "results", "reports")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
THE_USERS = ("one sentence", "one mistake", "names the mend", "the message", "message offers", "the mend")
"""Words of a docstring that promise a message to the user."""


def error_classes() -> Iterator[tuple[Path, ast.ClassDef]]:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            bases = [ast.unparse(base) for base in getattr(node, "bases", [])]
            if isinstance(node, ast.ClassDef) and any(
                base.endswith(("Error", "Exception", "Unavailable", "UnknownName")) for base in bases
            ):
                yield file, node


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_errors_that_promise_a_sentence_are_the_users() -> None:
    found = set()
    for file, node in error_classes():
        text = (ast.get_docstring(node) or "").lower()
        if any(words in text for words in THE_USERS):
            found.add(node.name)
            assert issubclass(getattr(importlib.import_module(module_of(file)), node.name), HarnessError), node.name
    assert {"Unsupported", "AdapterError", "StoreError", "ReportError", "JudgeUnavailable", "SourceError"} <= found


@pytest.mark.parametrize(
    "place",
    [
        "methods.base:Unsupported",
        "methods.adapters:AdapterError",
        "methods.registry:UnknownMethod",
        "methods.naming:VariantError",
        "methods.manifest:SavedModelError",
        "tasks.sandbox.model:SandboxUnavailable",
        "tasks.base:TaskUnavailable",
        "tasks.registry:UnknownTask",
        "tasks.registry:DuplicateTask",
        "tasks.sources.base:SourceError",
        "tasks.judge.config:JudgeUnavailable",
        "tasks.crossdomain.making:SetError",
        "results.ground.front_matter:CardError",
        "results.ground.files:StoreError",
        "results.ground.names:UnknownName",
        "results.ground.names:ListError",
        "reports.api:ReportError",
        "reports.scores:UnknownMetricError",
        "reports.catalogue.entries:UnknownEntryError",
        "harness.assets:AssetError",
    ],
)
def test_the_users_errors_by_name(place: str) -> None:
    module, _, name = place.partition(":")
    assert issubclass(getattr(importlib.import_module(module), name), HarnessError)


def pure_translations(tree: ast.AST) -> Iterator[int]:
    """Lines of `except … as error: raise Other(str(error))`, which says nothing that the first error did not."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler) or node.name is None:
            continue
        for inner in ast.walk(node):
            if isinstance(inner, ast.Raise) and isinstance(inner.exc, ast.Call) and len(inner.exc.args) == 1:
                argument = ast.unparse(inner.exc.args[0])
                made = ast.unparse(inner.exc.func).rpartition(".")[2]
                if made[:1].isupper() and argument in (node.name, f"str({node.name})", f"f'{{{node.name}}}'"):
                    yield inner.lineno


def test_the_check_for_translations_sees_one() -> None:
    code = "try:\n    f()\nexcept A as error:\n    if x:\n        raise B(str(error)) from error"
    assert list(pure_translations(ast.parse(code))) == [5]


def test_no_error_is_translated_by_hand() -> None:
    found = {
        f"{file.relative_to(ROOT)}:{line}" for file in FILES for line in pure_translations(ast.parse(file.read_text()))
    }
    assert not found


def test_whose_code_runs_is_said_wherever_transformers_loads_something() -> None:
    """Unsaid, `transformers` asks on the terminal whether to run the code that comes with a model."""
    unsaid = {
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("from_pretrained", "from_config")
        and "trust_remote_code" not in {keyword.arg for keyword in node.keywords}
    }
    assert not unsaid


def test_only_the_entry_point_ends_a_command_for_the_users_mistake() -> None:
    """Elsewhere a `HarnessError` is caught only to go on without what it was about, or to say more of it."""
    ends = [
        str(file.relative_to(ROOT))
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and node.type is not None
        and "HarnessError" in ast.unparse(node.type)
        and "SystemExit" in ast.unparse(node)
    ]
    assert ends == ["harness/cli.py"]
