"""An evaluation that was cut off and goes on gives the same outputs, to the bit, and asks the model for the rest."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.evaluation.cells import Evaluator, evaluate
from harness.evaluation.runner import Limits
from methods.base import Composed
from methods.conformance import Subject
from methods.routing.composed import RoutedComposed
from tasks.base import Request
from tests.harness.evaluation.conftest import text, tokenizer

from .cut import Cut, kept

__all__ = ["tokenizer"]

KINDS = ("choices", "texts", "samples", "both")


class Bound:
    """Items that share shots, and some of which share a question; golds of half of them are asked for."""

    name = "a"

    def __init__(self, kind: str) -> None:
        self.kind = kind
        rng = random.Random(1)
        self.shots = text(rng, 30) + " "
        self.questions = [text(rng, rng.randrange(2, 20)) for _ in range(24 if kind == "choices" else 12)]
        self.choices = [[" " + text(rng, 2) for _ in range(3)] for _ in self.questions]

    def eval_docs(self) -> list[Any]:
        return [SimpleNamespace(id=str(index)) for index in range(len(self.questions))]

    def requests(self, doc: Any, seed: int) -> list[Request]:
        index = int(doc.id)
        question = self.questions[index]
        if self.kind == "choices" or (self.kind == "both" and index % 2):
            return [Request("loglikelihood", self.shots, question, choice) for choice in self.choices[index]]
        drawn = {"samples": 2, "temperature": 1.0} if self.kind == "samples" else {}
        return [Request("generate", self.shots, question, until=("a",), max_new_tokens=8, **drawn)]

    def gold_request(self, doc: Any, seed: int) -> Request | None:
        index = int(doc.id)
        return Request("loglikelihood", self.shots, self.questions[index], " yes") if index % 2 else None


def cell(kind: str) -> Any:
    method = SimpleNamespace(method=SimpleNamespace(notes=lambda composed: []))
    return SimpleNamespace(task=SimpleNamespace(bound=Bound(kind), own="a"), seed=0, method=method)


class Watched:
    """A composed model whose forward passes are counted, and one of which is the last of its process."""

    def __init__(self, composed: Composed) -> None:
        self.composed = composed
        self.passes, self.last = 0, 10**9
        composed.model.register_forward_pre_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.passes += 1
        if self.passes > self.last:
            raise Cut

    @contextmanager
    def counting(self, last: int = 10**9) -> Iterator[None]:
        self.passes, self.last = 0, last
        try:
            yield
        finally:
            self.last = 10**9


def outputs(watched: Watched, tokenizer: Any, kind: str, own: Any = None, last: int = 10**9) -> dict[str, Any]:
    base: Any = SimpleNamespace(tokenizer=tokenizer)
    evaluator = Evaluator(base, watched.composed, 64, 0)
    _ = evaluator.lm.generation_reason  # the path is chosen before passes are counted
    with watched.counting(last):
        found = evaluate(evaluator, cell(kind), lambda done, of: None, own)
    return {name: value for name, value in found.items() if name != "peak_memory_bytes"}


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most five rows are decoded at once, so that some wait for others."""
    monkeypatch.setattr(Limits, "of", lambda device, tokens, rows, bytes_: Limits(tokens, 5, 16, bytes_))


@pytest.fixture(scope="module")
def models() -> dict[str, Watched]:
    """By path: weights of the second one's pool depend on whole sequences."""
    made = {}
    for path, subject in {"shared": Subject("mixer"), "plain": Subject("xlora")}.items():
        model = subject.model(torch.float32)
        torch.manual_seed(0)
        model.resize_token_embeddings(400, mean_resizing=False)
        made[path] = Watched(subject.install(model))
    return made


@pytest.mark.parametrize(
    ("path", "kind"), [*(("shared", kind) for kind in KINDS), ("plain", "choices"), ("plain", "texts")]
)
def test_outputs_are_equal_wherever_it_was_cut_off(
    path: str, kind: str, models: dict[str, Watched], tokenizer: Any, tmp_path: Path
) -> None:
    watched = models[path]
    expected = outputs(watched, tokenizer, kind)
    assert expected["path"] == path
    assert expected["routing"] is not None
    passes = watched.passes
    for last in (passes // 3, passes - 2) if path == "shared" else (passes // 2,):
        folder = tmp_path / str(last)
        with kept(folder) as own, pytest.raises(Cut):
            outputs(watched, tokenizer, kind, own, last)
        lines: list[str] = []
        with kept(folder, say=lines.append) as own:
            assert outputs(watched, tokenizer, kind, own) == expected
        # Prefixes are passed again, and on the plain path the texts that were being written.
        assert watched.passes <= passes - last + (3 if path == "shared" else 8)
        assert lines[0].startswith("goes on after ")
        assert lines[0].endswith(" requests")


def test_it_may_be_cut_off_again_and_again(models: dict[str, Watched], tokenizer: Any, tmp_path: Path) -> None:
    watched = models["shared"]
    expected = outputs(watched, tokenizer, "both")
    cuts = 0
    while True:
        with kept(tmp_path) as own:
            try:
                found = outputs(watched, tokenizer, "both", own, last=6)
                break
            except Cut:
                cuts += 1
    assert cuts > 2
    assert found == expected


def test_what_is_counted_is_kept(
    models: dict[str, Watched], tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without what was counted before, and with prefixes counted twice, routing would be another."""
    watched = models["shared"]
    expected = outputs(watched, tokenizer, "choices")
    with kept(tmp_path) as own, pytest.raises(Cut):
        outputs(watched, tokenizer, "choices", own, watched.passes // 2)
    monkeypatch.setattr(RoutedComposed, "load_tally", lambda *_: None)
    with kept(tmp_path) as own:
        found = outputs(watched, tokenizer, "choices", own)
    assert found["routing"] != expected["routing"]
    assert found["items"] == expected["items"]


def test_a_class_that_does_not_say_what_it_counts_starts_anew(
    models: dict[str, Watched], tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = models["shared"]
    expected = outputs(watched, tokenizer, "choices")
    passes = watched.passes
    kind = type(watched.composed)
    monkeypatch.setattr(watched.composed, "__class__", type("Own", (kind,), {"diagnostics": kind.diagnostics}))
    with kept(tmp_path) as own, pytest.raises(Cut):
        outputs(watched, tokenizer, "choices", own, 6)
    with kept(tmp_path) as own:
        assert outputs(watched, tokenizer, "choices", own) == expected
    assert watched.passes == passes
