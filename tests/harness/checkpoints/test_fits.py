"""A fit that was cut off and goes on ends where an uninterrupted one does, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import harness.training.resuming
from harness.training.tuning import tuned_fit
from methods import registry
from methods.base import Composed
from methods.conformance import Subject
from methods.routing.auxiliary import AuxiliaryLoss

from .cut import TOO_LARGE, Cut, LoopSession, equal, kept, said

TRAINED = [Subject(name) for name in registry.names() if registry.create(name).has_learning_rate()]
DROPPED = Subject("mixlora", {"lora": {"dropout": 0.3}})
"""Draws masks in every step."""


def fit(subject: Subject, session: LoopSession) -> Composed:
    composed = subject.install()
    subject.method().fit(composed, session)
    return composed


def cut_off(subject: Subject, folder: Path, at: int, epochs: int = 2) -> None:
    """A fit whose process ends in a step."""
    with kept(folder) as own, pytest.raises(Cut):
        fit(subject, LoopSession(own, at, epochs=epochs))


@pytest.mark.parametrize("subject", [*TRAINED, DROPPED], ids=str)
def test_every_method_goes_on_to_the_bit(subject: Subject, tmp_path: Path) -> None:
    whole = LoopSession(epochs=1)
    expected = fit(subject, whole).state()
    steps = len(whole.steps_made)
    at = max(2, steps - 1)
    cut_off(subject, tmp_path, at, epochs=1)
    with kept(tmp_path) as own:
        session = LoopSession(own, epochs=1)
        composed = fit(subject, session)
    assert equal(composed.state(), expected)
    assert session.losses == whole.losses
    # The step in which it was cut off is made again, and no other.
    assert len(session.steps_made) == steps - (at - 1)


SEARCHING = [Subject(name) for name in ("best-single", "task-arithmetic", "lorahub")]
READING = [Subject(name) for name in ("regmean", "retrieval", "avg-act")]


@pytest.mark.parametrize("subject", SEARCHING, ids=str)
def test_a_search_computes_no_loss_twice(subject: Subject, tmp_path: Path) -> None:
    whole = LoopSession()
    expected = fit(subject, whole).state()
    assert whole.looks >= 4
    with kept(tmp_path) as own, pytest.raises(Cut):
        fit(subject, LoopSession(own, cut_look=4))
    with kept(tmp_path) as own:
        session = LoopSession(own)
        assert equal(fit(subject, session).state(), expected)
    assert session.looks == whole.looks - 3
    assert session.notes == whole.notes


@pytest.mark.parametrize("subject", READING, ids=str)
def test_what_layers_note_of_rows_is_noted_in_every_process(subject: Subject, tmp_path: Path) -> None:
    expected = fit(subject, LoopSession()).state()
    with kept(tmp_path) as own, pytest.raises(Cut):
        fit(subject, LoopSession(own, cut_look=3))
    with kept(tmp_path) as own:
        assert equal(fit(subject, LoopSession(own)).state(), expected)


@pytest.mark.parametrize("at", [4, 5, 6, 16])
def test_phases_are_remembered(at: int, tmp_path: Path) -> None:
    """Gates of four experts, one phase of four steps each."""
    subject = Subject("phatgoose")
    whole = LoopSession()
    expected = fit(subject, whole).state()
    assert len(whole.steps_made) == 16
    cut_off(subject, tmp_path, at)
    lines: list[str] = []
    with kept(tmp_path, say=lines.append) as own:
        session = LoopSession(own)
        assert equal(fit(subject, session).state(), expected)
    assert session.losses == whole.losses
    assert len(session.steps_made) == 16 - (at - 1)
    in_phase = (at - 1) % 4
    assert lines == ([f"goes on at step {in_phase} of 4"] if in_phase else [])


def test_it_may_be_cut_off_again_and_again(tmp_path: Path) -> None:
    subject = Subject("mixer-aux")
    expected = fit(subject, LoopSession()).state()
    for _ in range(3):
        cut_off(subject, tmp_path, 2)
    with kept(tmp_path) as own:
        session = LoopSession(own)
        assert equal(fit(subject, session).state(), expected)
    assert session.steps_made == [4]


def nothing(*_: Any, **__: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("subject", "place", "what"),
    [
        (Subject("mixer"), torch.optim.AdamW, "load_state_dict"),
        (Subject("mixer"), torch.optim.lr_scheduler.LambdaLR, "load_state_dict"),
        (Subject("mixer"), Composed, "load_state"),
        (Subject("mixer-aux"), AuxiliaryLoss, "load_state"),
        (DROPPED, harness.training.resuming, "set_generators"),
    ],
    ids=["moments", "schedule", "weights", "running means", "generators"],
)
def test_nothing_that_is_kept_is_more_than_is_needed(
    subject: Subject, place: Any, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is not put back changes the result, so the tests above would see it."""
    expected = fit(subject, LoopSession()).state()
    cut_off(subject, tmp_path, 3)
    monkeypatch.setattr(place, what, nothing)
    with kept(tmp_path) as own:
        assert not equal(fit(subject, LoopSession(own)).state(), expected)


class TestTrials:
    """Learning rates that are tried, each from the start."""

    SCALES = (1.0, TOO_LARGE, 0.3)

    def tuned(self, subject: Subject, make: Callable[[float], LoopSession]) -> tuple[Composed, Any]:
        composed = subject.install()
        _, trials = tuned_fit(subject.method(), composed, self.SCALES, make)  # type: ignore[arg-type]
        return composed, trials

    @pytest.mark.parametrize("at", [3, 5, 7])
    def test_trials_are_remembered_and_what_was_not_finite_too(self, at: int, tmp_path: Path) -> None:
        subject = Subject("mixer")
        sessions: list[LoopSession] = []

        def make(own: Any, cut: int | None) -> Callable[[float], LoopSession]:
            sessions.clear()

            def session(scale: float) -> LoopSession:
                before = sum(len(one.steps_made) for one in sessions)
                sessions.append(LoopSession(own, None if cut is None else cut - before, scale))
                return sessions[-1]

            return session

        composed, trials = self.tuned(subject, make(None, None))
        assert [trial["dev_loss"] is None for trial in trials] == [False, True, False]
        steps = sum(len(one.steps_made) for one in sessions)
        with kept(tmp_path) as own, pytest.raises(Cut):
            self.tuned(subject, make(own, at))
        with kept(tmp_path) as own:
            again, found = self.tuned(subject, make(own, None))
        assert found == trials
        assert equal(again.state(), composed.state())
        assert sum(len(one.steps_made) for one in sessions) < steps - (at - 3)


def damage(folder: Path, name: str) -> None:
    (path,) = [path for path in (folder / "partial").rglob("data.pt") if path.parent.name.startswith(name)][-1:]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("part", ["now-", "done-"])
def test_a_damaged_checkpoint_is_named_and_not_used(part: str, tmp_path: Path, capsys: Any) -> None:
    subject = Subject("phatgoose")
    expected = fit(subject, LoopSession()).state()
    cut_off(subject, tmp_path, 7)
    damage(tmp_path, part)
    with kept(tmp_path) as own:
        session = LoopSession(own)
        assert equal(fit(subject, session).state(), expected)
    assert len(session.steps_made) == 16
    (line,) = said(capsys)
    assert line.startswith(f"harness: the checkpoint of the stage is not used ({part}0")
    assert line.endswith("data.pt is not the file that was written): it starts anew.")


def test_one_of_another_version_is_named_and_not_used(tmp_path: Path, capsys: Any) -> None:
    subject = Subject("mixer")
    cut_off(subject, tmp_path, 3)
    from harness.checkpoints import Checkpoint

    from .cut import partial

    place = partial(tmp_path)
    other = Checkpoint("the stage", place, {"torch": "2"}, seconds=0.0)
    assert said(capsys) == [
        "harness: the checkpoint of the stage is not used (it was made with torch 1, not 2): it starts anew."
    ]
    assert place.names() == []
    session = LoopSession(other)
    fit(subject, session)
    assert len(session.steps_made) == 4
    place.release()
