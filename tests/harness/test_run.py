"""The whole engine on a tiny model: a run, its resume, a kill in the middle, and the sentences for mistakes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from results.store import RunFolder
from tests.harness.runs.command import in_own_process

pytestmark = [pytest.mark.assets, pytest.mark.model]

ROOT = Path(__file__).resolve().parent.parent.parent
SMALL = ["--preset", "smoke", "--tasks", "sst2,arc-e", "--set", "experts.names=[sst2,mrpc,arc]", "--limit", "6"]


Harness = Callable[..., "subprocess.CompletedProcess[str]"]


def outcome(run: Path) -> dict[str, object]:
    """Everything a table is made of, but for times."""
    folder = RunFolder.open(run)
    return {
        record.cell: (
            record.metrics,
            record.parameters,
            record.routing,
            [item.model_dump() for item in folder.items(record.cell)],
        )
        for record in folder.records()
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, own_process: Harness) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    methods = "base,lora,uniform,mixer"
    done = own_process(
        "run", "--methods", methods, *SMALL, "--model", str(tiny_model), "--output", str(folder / "run"),
        stages=folder / "stages",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_a_run_has_a_record_for_every_cell_and_prints_its_table(undisturbed: Path) -> None:
    run = RunFolder.open(undisturbed / "run")
    records = run.records()
    assert len(records) == 8
    assert {record.status for record in records} == {"done"}
    assert run.verify() == []
    for record in records:
        assert record.n_items == 6
        if sys.platform == "linux":
            fitted = {"fit"} if record.spec.method == "mixer" else set()
            assert record.cost.peak_memory.keys() == {"evaluate"} | fitted
        assert record.metrics[record.primary].n == 6
        assert record.spec.pool.keys() == {
            "base": set(),
            "lora": {"arc" if record.spec.task == "arc-e" else "sst2"},
        }.get(record.spec.method, {"sst2", "mrpc", "arc"})
    mixed = next(record for record in records if record.spec.method == "mixer")
    assert mixed.routing is not None
    assert mixed.routing.logit_shift > 0
    assert sum(mixed.parameters.trainable.values()) == 2 * (4 * 32) * 3
    for suffix in ("tex", "md", "csv"):
        assert list((undisturbed / "run" / "reports").glob(f"*.{suffix}"))


def test_the_same_run_again_computes_nothing(undisturbed: Path, tiny_model: Path, harness: Harness) -> None:
    before = {path: path.stat().st_mtime_ns for path in (undisturbed / "stages").rglob("*") if path.is_file()}
    done = harness(
        "run", "--methods", "base,lora,uniform,mixer", *SMALL, "--model", str(tiny_model),
        "--output", str(undisturbed / "run"), stages=undisturbed / "stages",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert before == {p: p.stat().st_mtime_ns for p in (undisturbed / "stages").rglob("*") if p.is_file()}
    assert "expert" not in done.stderr.replace("experts", "")


@pytest.mark.parametrize("moment", ["expert mrpc", "fit mixer", "lora on sst2"])
def test_a_killed_run_ends_as_if_undisturbed(
    moment: str, undisturbed: Path, tiny_model: Path, tmp_path: Path, harness: Harness
) -> None:
    arguments = [
        "run", "--methods", "base,lora,uniform,mixer", *SMALL, "--model", str(tiny_model),
        "--output", str(tmp_path / "run"),
    ]  # fmt: skip
    line, environment = in_own_process(*arguments, stages=tmp_path / "stages")
    process = subprocess.Popen(
        line, env=environment, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stderr is not None
    for text in process.stderr:
        if text.startswith(moment):
            time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
            break
    process.stderr.close()
    assert process.wait() == -signal.SIGKILL
    done = harness(*arguments, stages=tmp_path / "stages")
    assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "run") == outcome(undisturbed / "run")


def test_a_failure_is_a_value_and_is_tried_again(tiny_model: Path, tmp_path: Path, harness: Harness) -> None:
    stages = tmp_path / "stages"
    arguments = ["run", "--methods", "base", *SMALL, "--model", str(tiny_model), "--output", str(tmp_path / "run")]
    assert harness(*arguments, stages=stages).returncode == 0
    (cell, *_) = (tmp_path / "run" / "cells").iterdir()
    record = json.loads((cell / "record.json").read_text())
    run = RunFolder.open(tmp_path / "run")
    failed = run.record(cell.name)
    assert failed is not None
    run.write_cell(failed.model_copy(update={"status": "failed", "error": "lost"}), [])
    assert not run.finished(cell.name)
    assert harness(*arguments, stages=stages).returncode == 0
    assert json.loads((cell / "record.json").read_text())["metrics"] == record["metrics"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods", "mixr"], ["mixr", "mixer"]),
        (["--tasks", "gsm9k"], ["gsm9k", "gsm8k"]),
        (["--preset", "quik"], ["quik", "quick"]),
        (["--methods", "mixer", "--set", "loss.entropy.sgn=1"], ["loss.entropy.sgn", "loss.entropy.sign"]),
        (["--set", "experts.rnk=1", "--methods", "mixer"], ["experts.rnk"]),
        (["--model", "smollm3"], ["smollm3", "smollm2-135m"]),
        (["--data", "/nowhere/at/all"], ["/nowhere/at/all", "does not exist"]),
        (["--data", str(ROOT / "tests"), "--tasks", "sst2"], ["sst2"]),
        (["--methods", "mixer", "--experts", "sst2,mrpc", "--set", "route.train_k=3"], ["3", "2"]),
        (["--experts", "nobody,sst2,mrpc,arc"], ["nobody", "gsm8k"]),
        (["--executor", "cloud"], ["cloud", "local"]),
        (["--device", "cuda:7"], ["cuda:7"]),
    ],
)
def test_a_mistake_ends_with_code_2_and_one_sentence(
    arguments: list[str], words: list[str], tmp_path: Path, refusal: Callable[..., str]
) -> None:
    output = tmp_path / "run"
    said = refusal("run", *arguments, "--output", str(output), "--plan", stages=tmp_path / "stages")
    assert all(word in said for word in words), said
    assert not output.exists()


def test_an_expert_for_another_base_is_refused(undisturbed: Path, tmp_path: Path, harness: Harness) -> None:
    adapter = next((undisturbed / "stages" / "expert").iterdir())
    done = harness(
        "run", "--methods", "uniform", "--tasks", "sst2", "--experts", f"sst2={adapter},mrpc={adapter}", "--limit", "2",
        "--output", str(tmp_path / "run"), stages=tmp_path / "stages",
    )  # fmt: skip
    assert done.returncode == 2
    assert "another base model" in done.stderr.strip().splitlines()[-1]


def test_the_plan_says_what_is_to_do_and_writes_nothing(tiny_model: Path, tmp_path: Path, harness: Harness) -> None:
    done = harness(
        "run", "--methods", "base,mixer", *SMALL, "--model", str(tiny_model), "--output", str(tmp_path / "run"),
        "--plan", "--workers", "3", stages=tmp_path / "stages",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "4 cells" in done.stdout
    assert "On 3 workers like this one: about " in done.stdout
    assert done.stdout.count("to do") == 4
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "stages").exists()
