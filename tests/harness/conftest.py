"""A tiny base model that reads the bundled tokenizer's text, for runs of the whole engine in seconds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.runs.command import in_own_process, printed

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="session")
def harness() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line in this process, with stages in a given folder."""
    return printed


@pytest.fixture(scope="session")
def own_process() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`harness` in a process of its own, for what only a process shows: it imports torch anew, in five seconds."""

    def run(*arguments: str, stages: Path) -> subprocess.CompletedProcess[str]:
        line, environment = in_own_process(*arguments, stages=stages)
        return subprocess.run(line, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)

    return run


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one sentence that a command line ends with, at exit code 2."""

    def run(*arguments: str, stages: Path) -> str:
        from harness.cli import main

        monkeypatch.setattr(sys, "argv", ["harness", *arguments])
        monkeypatch.setenv("HARNESS_STAGES", str(stages))
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
        assert len(lines) == 1, lines
        return lines[0]

    return run


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, smollm_path: Path) -> Path:
    """Folder of a random two-layer Llama with the bundled model's tokenizer."""
    from tests.harness.tiny import llama

    return llama(tmp_path_factory.mktemp("tiny") / "tiny-llama", smollm_path)
