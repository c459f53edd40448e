"""Progress where people look: one updating line in a notebook, plain lines where nothing can be redrawn."""

from __future__ import annotations

import io
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from harness import progress
from harness.progress import Progress


class FakeDisplay(ModuleType):
    """`IPython.display`, keeping what each display shows."""

    def __init__(self) -> None:
        super().__init__("IPython.display")
        self.states: list[list[str]] = []

    def HTML(self, text: str) -> str:
        return text

    def display(self, shown: str, display_id: bool) -> Any:
        assert display_id
        states = [shown]
        self.states.append(states)
        return SimpleNamespace(update=states.append)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeDisplay:
    display = FakeDisplay()
    ipython = ModuleType("IPython")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    ipython.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(progress, "NOTEBOOK_INTERVAL", 0.0)
    return display


def test_a_notebook_shows_one_line_that_is_updated(kernel: FakeDisplay, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(100.0).shown() as shown:
        with shown.job("expert <sst2>", 40.0) as job:
            job(1, 2)
        with shown.job("fit mixer", 60.0):
            pass
    (states,) = kernel.states
    assert any('value="0.200"' in state and "expert &lt;sst2&gt;" in state for state in states)
    assert any('value="0.400"' in state and "fit mixer" in state for state in states)
    assert states[-1].startswith("finished after ")
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_a_failure_stays_in_the_line(kernel: FakeDisplay) -> None:
    with Progress(2.0).shown() as shown:
        with pytest.raises(ValueError, match="no"), shown.job("fit mole", 1.0):
            raise ValueError("no")
        with shown.job("fit mixer", 1.0):
            pass
    last = kernel.states[0][-1]
    assert last.startswith("fit mole: failed after ")
    assert "finished after" in last
    assert "fit mixer" not in last


def test_what_a_job_says_once_stays(kernel: FakeDisplay) -> None:
    stream = io.StringIO()
    for shown in (Progress(1.0), Progress(1.0, stream)):
        with shown.shown(), shown.job("fit mixer (seed 0)", 1.0) as job:
            job.say("goes on at step 40 of 83")
            job.show(1.0, force=True)
    assert "fit mixer (seed 0): goes on at step 40 of 83<br>" in kernel.states[0][-1]
    assert "fit mixer (seed 0): goes on at step 40 of 83\n" in stream.getvalue()


def test_an_interrupt_never_reads_as_finished(kernel: FakeDisplay) -> None:
    with pytest.raises(KeyboardInterrupt), Progress(2.0).shown() as shown, shown.job("fit mole", 1.0):
        raise KeyboardInterrupt
    assert "fit mole: interrupted after " in kernel.states[0][-1]
    assert "finished" not in kernel.states[0][-1]


def test_ipython_in_a_terminal_is_no_notebook(kernel: FakeDisplay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", SimpleNamespace)
    assert progress.notebook() is None
    monkeypatch.delitem(sys.modules, "IPython")
    assert progress.notebook() is None


def test_a_given_stream_gets_plain_lines_even_in_a_notebook(kernel: FakeDisplay) -> None:
    stream = io.StringIO()
    with Progress(1.0, stream).shown() as shown, shown.job("expert sst2", 1.0):
        pass
    assert stream.getvalue().splitlines()[0].startswith("expert sst2: 0%")
    assert "expert sst2: done in" in stream.getvalue()
    assert not kernel.states
