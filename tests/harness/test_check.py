"""`harness check`: which rows tasks are checked on, what is skipped, what fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from harness.commands.maintenance import check_command
from results.ground.errors import HarnessError
from tasks import conformance

pytestmark = pytest.mark.assets


@pytest.fixture
def cola(tmp_path: Path) -> Path:
    """A data directory with the one task that the bundled source lacks."""
    folder = tmp_path / "glue" / "cola"
    folder.mkdir(parents=True)
    for split, start in (("train", 0), ("validation", 60)):
        rows = [{"sentence": f"the lamp {i} is on .", "label": i % 2, "idx": i} for i in range(start, start + 60)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_a_task_is_checked_on_the_rows_of_the_source(cola: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_command("cola", str(cola))
    printed = capsys.readouterr().out
    assert printed.startswith("ok      task cola (")
    assert printed.endswith("60 items from dir (glue/cola)\n")


def test_a_task_that_was_asked_for_and_is_not_there_is_a_mistake() -> None:
    with pytest.raises(HarnessError, match=r"cola is not in bundled .* available with --data DIR"):
        check_command("cola", "bundled")


def test_without_a_name_such_a_task_is_skipped_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("methods.registry.names", list)
    monkeypatch.setattr("tasks.registry.names", lambda: ["cola", "rte"])
    check_command(None, "bundled")
    skipped, checked = capsys.readouterr().out.splitlines()
    assert skipped.startswith("skipped task cola: The task cola is not in bundled")
    assert checked.startswith("ok      task rte (")


def test_a_check_that_fails_ends_with_code_1(
    cola: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(task: object) -> None:
        raise AssertionError("cola: its golds are wrong.")

    monkeypatch.setattr(conformance, "CHECKS", (broken,))
    with pytest.raises(typer.Exit) as ended:
        check_command("cola", str(cola))
    assert ended.value.exit_code == 1
    assert capsys.readouterr().out == "FAILED  task cola: AssertionError: cola: its golds are wrong.\n"
