"""The pages of methods and tasks are those of the cards, and the cards say what they must."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.commands.docs import methods_page, tasks_page
from methods import registry as methods
from results.ground.errors import HarnessError
from tasks import registry as tasks

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


def test_committed_pages_are_up_to_date() -> None:
    """Where this fails, run `harness docs`."""
    assert CliRunner().invoke(app, ["docs", "--check", "--output", str(DOCS)]).exit_code == 0


def test_the_folder_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DOCS.parent)
    assert CliRunner().invoke(app, ["docs", "--check"]).exit_code == 0


def test_a_page_out_of_date_is_refused(tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(app, ["docs", "--output", str(tmp_path)]).exit_code == 0
    assert (tmp_path / "methods.md").read_text() == methods_page()
    assert (tmp_path / "tasks.md").read_text() == tasks_page()
    (tmp_path / "tasks.md").write_text(tasks_page() + "more\n")
    refused = runner.invoke(app, ["docs", "--check", "--output", str(tmp_path)])
    assert isinstance(refused.exception, HarnessError)
    assert "tasks.md is not that of the cards" in str(refused.exception)


def test_pages_hold_every_card() -> None:
    page, other = methods_page(), tasks_page()
    for name in methods.names():
        assert f"\n## {name}\n" in page
        assert f"(#{name})" in page
        assert methods.card(name).summary in page
        assert methods.card(name).body().strip().splitlines()[-1] in page
    for name in tasks.names():
        assert f"\n## {name}\n" in other
        assert tasks.card(name).body.splitlines()[-1] in other
    assert len(re.findall(r"^# ", page, re.MULTILINE)) == len(re.findall(r"^# ", other, re.MULTILINE)) == 1


def test_pages_are_made_without_torch() -> None:
    code = (
        "import sys; from harness.commands.docs import methods_page, tasks_page; "
        "methods_page(); tasks_page(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", methods.names())
def test_a_methods_card_says_what_it_must(name: str) -> None:
    """Source, training, defaults with their source, deviations, cost."""
    card = methods.card(name)
    body = card.body()
    assert card.trained
    assert card.paper or name in ("base", "uniform", "random", "best-single")
    assert "**Cost.**" in body
    assert re.search(r"^\*\*Deviation", body, re.MULTILINE)
    assert "**Defaults.**" in body or re.search(r"^\| key \| default \| (why|source) \|$", body, re.MULTILINE)


def test_at_least_26_methods_are_listed_with_their_track() -> None:
    lines = CliRunner().invoke(app, ["list", "methods"]).output.splitlines()
    assert len(lines) >= 26
    assert {line.split()[1] for line in lines} == {"reference", "compose", "joint"}
    assert [line.split()[0] for line in lines] == methods.names()
