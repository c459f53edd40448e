"""A fit without optimiser steps can take as long as one with them, so it says how far it is."""

from __future__ import annotations

import pytest
import torch

from harness.training.session import EngineSession
from methods import registry
from methods.conformance import Subject
from methods.tiny import TinySession, tiny_llama

METHODS = {name: registry.create(name) for name in registry.names()}
SEARCHING = [name for name, method in METHODS.items() if method.trains() and not method.has_learning_rate()]


def test_there_are_some() -> None:
    assert {"best-single", "task-arithmetic", "lorahub", "regmean"} <= set(SEARCHING)


@pytest.mark.parametrize("name", SEARCHING)
def test_it_is_told_after_each_evaluation(name: str) -> None:
    subject = Subject(name, {})
    method, base = subject.method(), tiny_llama(dtype=torch.float64)
    composed = method.install(base, subject.experts(base), seed=0)
    session = TinySession(task="a" if method.per_task() else None)
    method.fit(composed, session)
    of = session.progressed[-1][1]
    assert session.progressed == [(done, of) for done in range(1, of + 1)]


def test_the_engine_shows_it() -> None:
    seen: list[tuple[int, int]] = []
    session = EngineSession(None, None, None, seed=0, on_step=lambda *one: seen.append(one))  # type: ignore[arg-type]
    session.progress(2, 11)
    assert seen == [(2, 11)]
