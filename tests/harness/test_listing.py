"""Listing and showing: fast, complete, and without torch."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from harness.cli import app, main
from harness.commands.listing import COMPLETED, KINDS, completions, list_command, names
from harness.commands.show import show_command
from harness.planning.options import ROWS, ExecutionOptions, RunOptions, declared
from results.ground.errors import HarnessError

# Commands and parameters whose text is the user's own: a number, a new folder, a key=value, a path.
FREE = {
    "run": {"seeds", "shots", "limit", "settings", "output", "include", "workers", "sbatch"},
    "reproduce": {"values", "seeds", "shots", "limit", "settings", "output", "include", "workers", "sbatch"},
    "ablate": {"values", "seeds", "shots", "limit", "settings", "output", "include", "workers", "sbatch"},
    "matrix": {"seeds", "shots", "limit", "settings", "output", "include", "workers", "sbatch"},
    "compare": {"margin"},
    "verify": {"recompute", "seed"},
    "pool": {"output", "rank", "rates", "tokens", "gain", "dev_rows", "seed", "set_"},
    "report": {"margin", "label", "caption", "rename", "columns"},
    "export": {"output", "seed", "variant"},
    "publish": {"to", "seed", "variant", "dry_run", "slim"},
    "rescore": {"sets"},
    "make-crossdomain": {"n", "output", "sets"},
    "merge": {"output"},
    "new": {"name", "output"},
    "clean": {"older_than", "max_size"},
    "docs": {"output"},
    "agreement": {"items", "peer_batch"},
    "params": {"rank", "experts", "targets"},
    "bench": {"items", "repetitions", "peer_batches", "plot", "only", "output"},
}

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_column_is_the_name_alone(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    list_command(kind)
    names = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert names
    assert len(set(names)) == len(names)
    assert not any(" " in name for name in names)


@pytest.mark.parametrize("kind", KINDS)
def test_json_has_an_object_for_each_name_with_named_columns(kind: str) -> None:
    done = CliRunner().invoke(app, ["list", kind, "--json"])
    assert done.exit_code == 0
    rows = json.loads(done.stdout)
    assert [row["name"] for row in rows] == names(kind)
    assert all(row.keys() == rows[0].keys() and len(row) > 1 for row in rows)


@pytest.mark.parametrize("kind", KINDS)
def test_everything_that_is_listed_can_be_shown(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in names(kind):
        show_command(name)
        assert len(capsys.readouterr().out.splitlines()) > 3, name


def test_a_table_says_what_it_takes_and_how_to_run_it(capsys: pytest.CaptureFixture[str]) -> None:
    show_command("t2")
    shown = capsys.readouterr().out
    assert "mixer" in shown
    assert "gsm8k" in shown
    assert shown.splitlines()[-1] == "Run it: harness reproduce t2"
    show_command("rank")
    assert capsys.readouterr().out.splitlines()[-1] == "Run it: harness ablate rank"


def test_a_model_says_where_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    show_command("smollm2-135m")
    assert "licence: Apache-2.0" in capsys.readouterr().out
    show_command("llama3-8b")
    shown = capsys.readouterr().out
    assert "parameters: 8,030,261,248" in shown
    assert "harness run --model meta-llama/Meta-Llama-3-8B" in shown


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


def test_every_declared_kind_of_name_is_served() -> None:
    kinds = {option.names for group in (RunOptions, ExecutionOptions) for _, _, option in declared(group)} - {None}
    assert {"methods", "tasks", "models", "experts", "devices", "isolation", "executors"} <= kinds
    for kind in kinds:
        assert completions(str(kind), ""), kind


@pytest.mark.parametrize(
    ("kind", "some"),
    [
        ("experts", {"sst2", "arc", "mbpp"}),
        ("devices", {"auto", "cpu"}),
        ("isolation", {"gvisor", "bubblewrap", "landlock", "process"}),
        ("executors", {"local", "shared", "slurm", "ray"}),
        ("ablations", {"data-size", "top-k", "rank", "alpha-lambda", "entropy-sign"}),
        ("formats", {"latex", "md", "csv", "html"}),
        ("forms", {"composed", "peft"}),
        ("kinds", {"methods", "tables"}),
        ("reproducible", {"t1", "f6", "a4", "all"}),
    ],
)
def test_names_that_complete_an_argument(kind: str, some: set[str]) -> None:
    assert some <= set(completions(kind, ""))


def test_made_sets_and_clocks_are_those_that_the_commands_take() -> None:
    from tasks import registry

    made = {name for name in registry.names() if registry.card(name).family == "cross-domain"}
    assert set(names("made-sets")) == made


def test_runs_are_completed_from_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two", "no-run"):
        (tmp_path / "results" / "runs" / name).mkdir(parents=True)
    for name in ("one", "two"):
        (tmp_path / "results" / "runs" / name / "run.yaml").write_text("")
    assert completions("runs", "results/runs/") == ["results/runs/one", "results/runs/two"]


def commands() -> dict[str, Any]:
    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", commands())
def test_an_argument_is_completed_or_free(name: str) -> None:
    """A new argument is given a list of names, or stands in `FREE` because nobody can list its values."""
    for parameter in commands()[name].params:
        if getattr(parameter, "is_flag", False) or parameter.name in FREE.get(name, set()):
            continue
        assert parameter._custom_shell_complete is not None, f"{name}: {parameter.name}"


def test_completing_needs_no_torch() -> None:
    code = (
        "import sys\nfrom harness.commands.listing import COMPLETED, KINDS, names\n"
        "for kind in [*KINDS, *COMPLETED]: names(kind)\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert not set(COMPLETED) & set(KINDS)


def test_help_stands_in_groups_that_hold_every_command() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    groups = re.findall(r"^(\w[\w ]*):$", shown, re.MULTILINE)
    assert groups == ["Options", "Compare", "Look at a run", "Take away", "Know what there is", "This installation"]
    for name in commands():
        assert re.search(rf"^  {name}\s", shown, re.MULTILINE), name


def test_a_matrix_shows_no_option_that_it_refuses() -> None:
    shown = CliRunner().invoke(app, ["matrix", "--help"]).output
    assert "--tasks" in shown
    assert not [name for name in ROWS if f"--{name.replace('_', '-')}" in shown]


def test_listing_says_of_everything_that_it_lists() -> None:
    shown = " ".join(CliRunner().invoke(app, ["list", "--help"]).output.split())
    assert [kind for kind in KINDS if kind not in shown] == []


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


@pytest.mark.parametrize(
    "mistake", [["run", "--nope"], ["nope"], ["list"], ["run", "--limit", "many"], ["show", "mixer", "mole"]]
)
def test_a_mistake_of_usage_is_no_traceback(
    mistake: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["harness", *mistake])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "Error: " in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_command_says_how_to_go_on(
    number: signal.Signals, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> None:
        signal.raise_signal(number)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("harness.commands.listing.list_command", stopped)
    monkeypatch.setattr(sys, "argv", ["harness", "list", "methods"])
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ended.value.code == code
    assert "the same command goes on from there" in capsys.readouterr().err
