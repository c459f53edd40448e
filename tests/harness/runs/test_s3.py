"""A run on S3: machines that share nothing but a bucket divide its stages, also when one of them dies."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from results.ground.network import Network
from results.remote import Remote
from results.stages import Stages
from results.store import RunFolder
from tests.harness.runs.command import TINY, call
from tests.harness.runs.kills import results_of
from tests.results.stores import Memory, fails, hangs, loses

pytestmark = [pytest.mark.assets, pytest.mark.model]

SECRET = "a-secret-that-nobody-may-read"
PATIENCE = "4"
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A local server that speaks S3."""
    moto = pytest.importorskip("moto.server")
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a fresh bucket, and the environment that reaches it."""
    import fsspec

    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "an-access-key",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "HARNESS_STAGES_PATIENCE": PATIENCE,
    }.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{next(NUMBERS)}"
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(name)
    monkeypatch.setenv("HARNESS_STAGES", f"s3://{name}/stages")
    return name


def line(model: Path, run: Path) -> list[str]:
    return ["run", "--methods", "base,mixer", "--tasks", "sst2,mrpc", *TINY, "--model", str(model),
            "--device", "cpu", "--output", str(run)]  # fmt: skip


def machine(home: Path, model: Path, name: str, stays: int = 0) -> subprocess.Popen[str]:
    """A process with a folder of its own for stages and for the run; see `logged` for the stage it stays in."""
    command = [sys.executable, "-m", "tests.harness.runs.logged", str(home / "log"), str(stays)]
    environment = os.environ | {"HARNESS_STAGES_CACHE": str(home / name / "stages"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *line(model, home / name / "run")],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(home: Path, word: str) -> Counter[str]:
    """How often each stage was begun, or made."""
    lines = (one.split() for one in (home / "log").read_text().splitlines())
    return Counter(stage for verb, stage in lines if verb == word)


def wait_until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 120
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)


def objects(bucket: str) -> list[str]:
    import fsspec

    return list(fsspec.filesystem("s3", skip_instance_cache=True).find(f"{bucket}/stages"))


def test_machines_divide_a_run_and_one_takes_over_what_a_killed_one_was_at(
    bucket: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, other = machine(tmp_path, tiny_model, "one", stays=2), machine(tmp_path, tiny_model, "two")
    heard = ""
    with killed, other:
        for said_line in other.stderr or ():
            heard += said_line
            if said_line.startswith("harness: Waiting for"):
                wait_until(lambda: said(tmp_path, "stays"))
                killed.kill()
        killed.kill()
    assert (killed.returncode, other.wait()) == (-9, 0), heard
    assert "harness: Waiting for" in heard

    made = said(tmp_path, "made")
    assert sorted(made.values()) == [1] * 8  # 3 experts, 1 fit, 4 outputs
    assert sum((said(tmp_path, "began") - made).values()) == 1  # what the killed one was at
    stored = objects(bucket)
    assert {name.split("/")[2] for name in stored} == {"DONE", "expert", "composed", "outputs"}  # no claim is left
    assert len([name for name in stored if "/DONE/" in name]) == 8

    monkeypatch.setenv("HARNESS_STAGES_CACHE", str(tmp_path / "one" / "stages"))
    assert call(*line(tiny_model, tmp_path / "one" / "run")) == 0
    assert objects(bucket) == stored
    assert said(tmp_path, "made") == made
    assert results_of(tmp_path / "one" / "run") == results_of(tmp_path / "two" / "run")

    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()) + heard.encode()
    for word in (SECRET, "an-access-key", os.environ["AWS_ENDPOINT_URL"]):
        assert word.encode() not in written


def test_a_run_over_a_store_that_fails_stalls_and_loses_writes_ends_well_or_with_a_sentence(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    memory, counted = Memory(), itertools.count(1)
    monkeypatch.setattr(Network, "_filesystem", memory)
    monkeypatch.setitem(Network.__init__.__kwdefaults__, "pause", 0.001)
    monkeypatch.setitem(Network.__init__.__kwdefaults__, "deadline", 0.2)
    monkeypatch.setenv("HARNESS_STAGES", "memory://bucket/stages")
    monkeypatch.setenv("HARNESS_STAGES_CACHE", str(tmp_path / "stages"))
    command = ["run", "--methods", "base,uniform", "--tasks", "sst2", *TINY, "--model", str(tiny_model),
               "--device", "cpu", "--output", str(tmp_path / "run")]  # fmt: skip

    def sometimes(operation: str, path: str) -> str | None:
        number = next(counted)
        if number % 29 == 0:
            return hangs()
        if number % 7 == 0:
            return fails()
        return loses() if operation == "write" and number % 5 == 0 else None

    memory.trouble = lambda operation, path: fails()
    assert call(*command) == 2
    (sentence,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("harness: ")]
    assert "memory://bucket/stages cannot be" in sentence
    memory.trouble = sometimes
    assert call(*command) == 0
    assert next(counted) > 100
    memory.trouble = lambda operation, path: None
    there = Stages(tmp_path / "elsewhere", Remote(Network("memory://bucket/stages")))
    names = {name for cell in RunFolder.open(tmp_path / "run").info.cells for name in cell.stages}
    assert {name: there.faults(*name.split("/")) for name in names} == {name: [] for name in names}


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("HARNESS_STAGES", "s3://no-such-bucket/stages", "make the bucket"),
        ("HARNESS_STAGES", "s3://key:secret@bucket", "AWS_ACCESS_KEY_ID"),
        ("HARNESS_STAGES_PATIENCE", "soon", "seconds from 1 to 86,400"),
    ],
)
def test_a_store_that_cannot_be_used_is_said_before_anything_is_computed(
    bucket: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str,
    words: str, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv(variable, value)
    monkeypatch.setenv("HARNESS_STAGES_CACHE", str(tmp_path / "stages"))
    assert call(*line(tiny_model, tmp_path / "run")) == 2
    (sentence,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("harness: ")]
    assert words in sentence
    assert "key:secret" not in sentence
    assert not (tmp_path / "run").exists()
