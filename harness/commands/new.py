"""`harness new`: a package with a method or a task of one's own that passes `harness check` as it is written."""

from __future__ import annotations

import json
import keyword
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import typer

from results.ground.errors import HarnessError
from results.ground.names import unknown

KINDS = ("method", "task")
_SAMPLE = 60


def new_command(kind: str, name: str, output: Path | None) -> None:
    """Write a skeleton and say what to do with it.

    Args:
        kind: `method` or `task`.
        name: of the method or task.
        output: the new folder; default one of that name here.

    Raises:
        HarnessError: no such kind, a name that is taken or that no package can have, or a folder that is there.
    """
    folder = write_skeleton(kind, name, Path(name) if output is None else output)
    typer.echo(f"The {kind} {name} is in {folder}. Next:\n\n    pip install -e {folder}\n    harness check {name}")


def write_skeleton(kind: str, name: str, folder: Path) -> Path:
    """Write the files of a package; see `new_command`."""
    from methods import registry as methods
    from tasks import registry as tasks
    from tasks.files import NAME

    if kind not in KINDS:
        raise unknown("kind of skeleton", kind, KINDS)
    module = name.replace("-", "_").replace(".", "_").lower()
    if not NAME.fullmatch(name) or not module.isidentifier() or keyword.iskeyword(module):
        raise HarnessError(f"No package can be named '{name}': begin with a letter and use letters, digits, _ and -.")
    if name in (methods.names() if kind == "method" else tasks.names()):
        raise HarnessError(f"There is a {kind} '{name}' already: choose another name.")
    if folder.exists():
        raise HarnessError(f"{folder} is there already: choose another --output.")
    words = {"name": name, "module": module, "cls": "".join(part.capitalize() for part in module.split("_"))}
    package, test = folder / module, folder / "tests"
    package.mkdir(parents=True)
    test.mkdir()
    (package / "__init__.py").write_text(f'"""The {kind} `{name}` of the LoRA harness."""\n')
    (folder / "pyproject.toml").write_text(_filled("pyproject.toml", **words, kind=kind))
    (package / f"{kind}.py").write_text(_filled(f"{kind}.py", **words))
    (test / f"test_{module}.py").write_text(_filled(f"test_{kind}.py", **words))
    card = package / f"{name}.md"
    if kind == "method":
        card.write_text(_filled("method.md", **words))
    else:
        rows = package / "rows.jsonl"
        rows.write_text("".join(json.dumps(row) + "\n" for row in map(_question, range(_SAMPLE))))
        card.write_text(_task_card(rows, words))
    return folder


def _filled(template: str, **words: str) -> str:
    text = (resources.files("harness.skeletons") / f"{template}.txt").read_text(encoding="utf-8")
    return Template(text).substitute(words)


def _question(i: int) -> dict[str, Any]:
    """A row to begin with: right answers stand at every position equally often."""
    a, b = 2 + i % 10, 3 + i // 10
    choices = [str(a + b + step) for step in (0, 1, 2, 5)]
    place = i % 4
    return {"question": f"What is {a} plus {b}?", "choices": choices[-place:] + choices[:-place], "answer": str(a + b)}


def _task_card(rows: Path, words: dict[str, str]) -> str:
    """The card that follows from the rows, with the class of the package."""
    import yaml

    from tasks.row_file_task import read_row_task

    card = read_row_task(rows.resolve()).card
    front = card.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"body"})
    own = {"name": words["name"], "class": f"{words['module']}.task:{words['cls']}", "expert": words["name"]}
    front |= own | {"set": words["name"], "licence": "yours to state", "family": "own"}
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=120)
    body = card.body.partition("\n\n")[2]
    return f"---\n{head}---\nSums to begin with; put your questions into `rows.jsonl`.\n\n{body}\n"
