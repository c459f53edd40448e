"""The trackers themselves, each writing to a folder of its own and read back; skipped where one is not installed.

`.ci/trackers` installs all three and runs this file. Each runs in a process of its own, as in a run.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.tracking.tracker import installed

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys
from pathlib import Path
from harness.tracking.observer import Observer
from harness.tracking.tracker import tracker
from tests.harness.tracking.test_observer import folder_of
observer = Observer(tracker(sys.argv[1]), sys.argv[1])
with observer.following(folder_of(Path(sys.argv[2]), ("base", "mixer[loss.entropy.sign=-1]"))):
    observer.expert({"expert": "sst2", "seed": 0, "log": [{"step": s, "loss": 2.0 / s, "lr": 0.1} for s in (1, 2, 3)]})
    observer.expert({"expert": "arc", "seed": 0, "log": [{"step": 1, "loss": float("nan"), "lr": 0.1}]})
"""


def tracked(name: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)} | environment
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name, str(tmp_path)],
        cwd=tmp_path, env=variables, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "", "standard output is for the run's table"
    return done


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not installed(name), reason=f"{name} is not installed (.ci/trackers does it)")


@needs("mlflow")
def test_mlflow_keeps_curves_values_and_table_in_a_local_store(tmp_path: Path) -> None:
    done = tracked("mlflow", tmp_path, MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db")
    assert "left out" not in done.stderr
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        rows = store.execute("select key, step, value, is_nan from metrics").fetchall()
        (run,) = store.execute("select name, status from runs").fetchall()
        (experiment,) = store.execute("select name from experiments where name != 'Default'").fetchall()
        params = dict(store.execute("select key, value from params").fetchall())
    store.close()
    curve = {step: value for key, step, value, _ in rows if key == "expert/sst2/seed 0/loss"}
    assert curve == {1: 2.0, 2: 1.0, 3: 2.0 / 3}
    assert [nan for key, _, _, nan in rows if key == "expert/arc/seed 0/loss"] == [1]
    assert "cell/sst2/mixer loss.entropy.sign:-1/seed 0/acc" in {key for key, *_ in rows}
    assert (run, experiment) == (("run", "FINISHED"), ("lora-harness",))
    assert params["command"] == "harness"
    (table,) = tmp_path.rglob("comparison.json")
    assert "mixer[loss.entropy.sign=-1]" in table.read_text()
    (text,) = tmp_path.rglob("comparison.md")
    assert text.read_text().startswith("**Methods by tasks")


@needs("mlflow")
def test_an_mlflow_server_that_is_away_is_one_line(tmp_path: Path) -> None:
    done = tracked("mlflow", tmp_path, MLFLOW_TRACKING_URI="http://127.0.0.1:9", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    lines = [line for line in done.stderr.splitlines() if "mlflow is left out" in line]
    assert len(lines) == 1
    assert "begin failed" in lines[0]
    assert "Traceback" not in done.stderr


@needs("wandb")
def test_wandb_writes_an_offline_run(tmp_path: Path) -> None:
    done = tracked("wandb", tmp_path, WANDB_MODE="offline")
    assert "left out" not in done.stderr
    (run,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    written = run.read_bytes()
    for name in ("expert/sst2/seed 0/loss", "cell/sst2/mixer[loss.entropy.sign=-1]/seed 0/acc", "lora-harness"):
        assert name.encode() in written, name
    (table,) = (tmp_path / "wandb").rglob("comparison*.table.json")
    content = json.loads(table.read_text())
    assert content["columns"][:2] == ["panel", "method"]
    assert "mixer[loss.entropy.sign=-1]" in [row[1] for row in content["data"]]


@needs("wandb")
def test_wandb_without_an_account_is_one_line(tmp_path: Path) -> None:
    away = {
        "WANDB_MODE": "online",
        "WANDB_API_KEY": "",
        "WANDB_BASE_URL": "http://127.0.0.1:9",
        "WANDB_INIT_TIMEOUT": "3",
    }
    done = tracked("wandb", tmp_path, **away)
    assert (
        len([line for line in done.stderr.splitlines() if "wandb is left out from here on: begin failed" in line]) == 1
    )
    assert "Traceback" not in done.stderr


@needs("trackio")
def test_trackio_keeps_curves_values_and_table_in_a_local_store(tmp_path: Path) -> None:
    done = tracked("trackio", tmp_path, TRACKIO_DIR=str(tmp_path / "trackio"))
    assert "left out" not in done.stderr
    with sqlite3.connect(tmp_path / "trackio" / "lora-harness.db") as store:
        rows = [
            (step, json.loads(text)) for step, text in store.execute("select step, metrics from metrics order by id")
        ]
        ((config,),) = store.execute("select config from configs").fetchall()
    store.close()
    found: dict[str, list[tuple[int, Any]]] = {}
    for step, metrics in rows:
        for key, value in metrics.items():
            found.setdefault(key, []).append((step, value))
    assert found["expert/sst2/seed 0/loss"] == [(1, 2.0), (2, 1.0), (3, 2.0 / 3)]
    ((_, lost),) = found["expert/arc/seed 0/loss"]
    assert lost == "NaN" or math.isnan(lost)
    assert "cell/sst2/mixer[loss.entropy.sign=-1]/seed 0/acc" in found
    ((_, table),) = found["comparison"]
    assert "mixer[loss.entropy.sign=-1]" in [row["method"] for row in table["_value"]]
    assert found["outcome"][0][1] == "finished"
    assert json.loads(config)["command"] == "harness"
