"""What a run brings along in files: methods (.py), tasks (rows), and task files of lm-evaluation-harness (.yaml).

A file may stand wherever its method or task is named: `--methods ./my_router.py[k=2] --tasks ./my_quiz.jsonl@5-shot`.
`located` turns that into plain names and the key `include`, which holds absolute paths, so that everything after reads
names alone and a run means the same from any folder; `bring` makes the files known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.planning.sources import anchored_data
from results.ground.errors import HarnessError
from results.ground.names import shown
from results.ground.places import place

_METHOD = re.compile(r"(?P<path>.+\.py)(?P<rest>\[.*\])?", re.DOTALL)
_ROWS = re.compile(r"(?P<path>.+\.(csv|json|jsonl|jsonl\.gz|parquet))(?P<rest>@\d+-shot)?", re.IGNORECASE)
_YAML = re.compile(r".+\.ya?ml(@\d+-shot)?")


def located(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Configuration values in which every file is absolute and every method and task a name.

    Args:
        values: nested, as a preset or options give them.
        folder: that relative paths start at: the configuration file's, or the working directory.

    Raises:
        HarnessError: a file that holds no method or task.
    """
    values = dict(values)
    files = values.get("include") or []
    if not isinstance(files, list | tuple) or not all(isinstance(path, str) and path.strip() for path in files):
        raise HarnessError("include must be a list of files: correct it.")
    include = [_absolute(path, folder) for path in files]
    for key, pattern in (("methods", _METHOD), ("tasks", _ROWS)):
        if not isinstance(values.get(key), list | tuple):
            continue
        names = []
        for text in values[key]:
            if not isinstance(text, str):
                raise HarnessError(f"{shown(text)} is no name in {key}: write each as a text.")
            match = pattern.fullmatch(text)
            if key == "tasks" and _YAML.fullmatch(text):
                raise HarnessError(
                    f"A task file of lm-eval names its task itself: write --include {text} --tasks NAME."
                )
            if match is None:
                names.append(text)
                continue
            path = _absolute(match["path"], folder)
            include.append(path)
            names.append(_name(path) + (match["rest"] or ""))
        values[key] = names
    if include:
        values["include"] = list(dict.fromkeys(include))
    if isinstance(values.get("data"), str):
        values["data"] = anchored_data(values["data"], folder)
    return values


def bring(files: Iterable[str], *, functions: bool = False) -> list[str]:
    """Make methods and tasks in files known to the registries of this process.

    Args:
        files: absolute paths.
        functions: whether a task file of lm-eval may name Python functions, which are run.

    Returns:
        The names that they are known by.

    Raises:
        HarnessError: a file is missing, holds nothing of use, or has a name that is taken.
    """
    names = []
    for file in files:
        path = Path(file)
        if path.suffix == ".py":
            from methods import registry as methods

            names.append(methods.bring(path))
        elif _ROWS.fullmatch(file) or _YAML.fullmatch(file):
            from tasks import registry as tasks

            names.append(tasks.bring(path, functions=functions))
        else:
            raise HarnessError(
                f"{file} is no method (.py) and no task (.csv, .json, .jsonl, .parquet, .yaml): rename it."
            )
    return names


def named(text: str) -> str:
    """A name as it is; a file's method or task is made known and named.

    Raises:
        HarnessError: see `bring`.
    """
    if any(pattern.fullmatch(text) for pattern in (_METHOD, _ROWS, _YAML)):
        return bring([_absolute(text, Path.cwd())])[0]
    return text


def _absolute(path: str, folder: Path) -> str:
    # Not resolved: a link's own name is the name that was meant.
    return str((folder / place(path)).absolute())


def _name(path: str) -> str:
    from tasks.files import file_name

    return Path(path).stem if path.endswith(".py") else file_name(Path(path))
