"""Listing and showing: fast, complete, and without torch."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.commands.listing import KINDS, completions, list_command, show_command
from results.ground.errors import HarnessError

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_column_is_the_name_alone(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    list_command(kind)
    names = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert names
    assert len(set(names)) == len(names)
    assert not any(" " in name for name in names)


def test_every_listed_method_task_and_preset_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    from harness.config import preset_names
    from methods import registry as methods
    from tasks import registry as tasks

    for name in [*methods.names(), *tasks.names(), *preset_names()]:
        show_command(name)
        assert len(capsys.readouterr().out.splitlines()) > 3, name


def test_an_unknown_name_is_one_sentence() -> None:
    with pytest.raises(HarnessError, match="mixer"):
        show_command("mixr")
    with pytest.raises(HarnessError, match="methods"):
        list_command("method")


def test_tasks_of_made_sets_say_why_they_are_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    made = tmp_path / "made" / "crossdomain" / "math-coding"
    made.mkdir(parents=True)
    (made / "test.jsonl").write_text("{}")
    list_command("tasks")
    lines = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "Unavailable: no set was made here. `harness make-crossdomain math-medical`" in lines["math-medical"]
    assert [name for name, line in lines.items() if "Unavailable" in line] == ["math-medical"]
    show_command("math-medical")
    assert "Unavailable" in capsys.readouterr().out
    show_command("math-coding")
    assert "Unavailable" not in capsys.readouterr().out


def test_completion_goes_on_after_a_comma() -> None:
    assert "mixer,mole" in completions("methods", "mixer,mo")


def test_listing_methods_needs_no_torch_and_answers_at_once() -> None:
    code = (
        "import sys; sys.argv = ['harness', 'list', 'methods']\n"
        "from harness.cli import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    times = []
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - started)
        assert done.stderr.strip() == "False"
    # Half a second on an idle machine; a test machine may be busy.
    assert min(times) < 2.0
