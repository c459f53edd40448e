"""Every registered task, from every source at hand, does what all tasks must do."""

from __future__ import annotations

import dataclasses

import pytest

from tasks import conformance, registry
from tasks.base import BoundTask, TaskSettings, TaskUnavailable
from tasks.sources import BundledSource, DirectorySource, Source


def _bind(name: str, source: Source, **settings: object) -> BoundTask:
    try:
        return registry.create(name).bind(source, TaskSettings(**settings))
    except TaskUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", registry.names())
def test_conforms_on_a_directory(name: str, written: DirectorySource) -> None:
    conformance.check(_bind(name, written))


@pytest.mark.parametrize("name", [name for name in registry.names() if registry.card(name).letters])
def test_conforms_with_letters(name: str, written: DirectorySource) -> None:
    conformance.check(_bind(name, written, prompt="letters"))


@pytest.mark.assets
@pytest.mark.parametrize("name", [name for name in registry.names() if "bundled" in registry.card(name).sources])
def test_conforms_on_bundled_rows(name: str, bundled: BundledSource) -> None:
    # Every reference solution of code tasks is run in test_code_tasks.py.
    few = {"limit": 20} if name in ("humaneval", "mbpp") else {}
    conformance.check(_bind(name, bundled, **few))


class _Broken:
    """A bound task with one behaviour replaced."""

    def __init__(self, task: BoundTask, **changes: object) -> None:
        self._task, self._changes = task, changes

    def __getattr__(self, name: str) -> object:
        return self._changes.get(name, getattr(self._task, name))

    def with_settings(self, settings: TaskSettings) -> _Broken:
        return _Broken(self._task.with_settings(settings), **self._changes)


def test_checks_can_fail(written: DirectorySource) -> None:
    task = _bind("arc-e", written)
    doc, other = task.parts["eval"][:2]

    shared = {**task.parts, "dev": [*task.parts["dev"], doc]}
    copied = {**task.parts, "dev": [*task.parts["dev"], dataclasses.replace(doc, id="copy")]}
    twice = {**task.parts, "eval": [*task.parts["eval"], dataclasses.replace(other, id=doc.id)]}

    def wrong_target(doc):  # type: ignore[no-untyped-def]
        return dataclasses.replace(task.example(doc), target=task.requests(doc, 0)[0].continuation)

    def positional(doc, seed, calls=[]):  # type: ignore[no-untyped-def]  # noqa: B006
        calls.append(doc)
        return [dataclasses.replace(r, prefix=f"{len(calls)} ") for r in task.requests(doc, seed)]

    broken = [
        (conformance.parts_are_disjoint, {"parts": shared}),
        (conformance.parts_are_disjoint, {"parts": copied}),
        (conformance.ids_are_unique, {"parts": twice}),
        (conformance.parts_are_there, {"parts": {**task.parts, "eval": []}}),
        (conformance.training_ends_in_gold, {"example": wrong_target}),
        (conformance.gold_scores_one, {"example": wrong_target}),
        (conformance.guessing_is_at_chance, {"chance": lambda: 0.5}),
        (conformance.guessing_is_at_chance, {"majority": lambda: None}),
        (conformance.fewshot_is_positionless, {"requests": positional}),
        (conformance.name_carries_settings, {"name": "gsm8k@5-shot"}),
    ]
    for check, changes in broken:
        check(task)
        with pytest.raises((AssertionError, registry.UnknownTask)):
            check(_Broken(task, **changes))  # type: ignore[arg-type]
