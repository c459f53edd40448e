"""`harness make-crossdomain`: where a set is, what is missing of one, and mistakes in its settings."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.cli import main
from tests.fake_endpoint import FakeEndpoint
from tests.tasks.crossdomain.test_making import Generator

USUAL = ("preset=generic", "model=writer", "concurrency=1", "backoff=0.01")


def make(folder: Path, *sets: str) -> int:
    """The command's exit code, in this process."""
    command = ["harness", "make-crossdomain", "math-medical", "--n", "8", "--output", str(folder)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [*command, *(part for one in sets for part in ("--set", one))])
        with pytest.raises(SystemExit) as caught:
            main()
    return int(caught.value.code or 0)


def test_a_set_is_made_and_its_folder_said(
    endpoint: FakeEndpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.answer = Generator()
    assert make(tmp_path, *USUAL, f"base_url={endpoint.url}") == 0
    said = capsys.readouterr()
    assert said.out.split() == [str(tmp_path / "crossdomain" / "math-medical")]
    assert "4 of 8 questions\n8 of 8 questions\n" in said.err


def test_what_is_missing_is_said_and_is_no_success(
    endpoint: FakeEndpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.answer = Generator()
    assert make(tmp_path, *USUAL, f"base_url={endpoint.url}", "budget_requests=1") == 1
    assert "incomplete: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (("temperature=hot",), "The generator's setting temperature is wrong: "),
        (("nonsense=1",), "The generator's setting nonsense is wrong: "),
        (("model",), "key=value"),
    ],
)
def test_a_wrong_setting_is_a_sentence(
    sets: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(tmp_path, *sets) == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "crossdomain").exists()
