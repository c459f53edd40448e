"""What `harness publish` writes and pushes: a data set that loads, nothing of this machine, and just that."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from harness.sharing.publish import push, stage
from results.ground.errors import HarnessError
from results.schema import Command, PlannedCell, PlannedVariant, RunInfo
from results.store import RunFolder
from tests.reports.factory import make_grid, make_items, make_record

SECRET = "canary-7f3a9b2e41"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "anna smith"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("CANARY_API_KEY", SECRET)
    return folder


@pytest.fixture
def run(home: Path) -> Path:
    """A run that speaks of its machine wherever a record can."""
    records, items = make_grid(("base", "mixer"), ("sst2", "arc-e"), (0,), n=20)
    records = [
        record.model_copy(
            update={
                "arguments": ["run", "--model", f"{home}/models/my llama", "--data", "/mnt/anna/data"],
                "notes": [f"Read from {home}/data/sst2.jsonl."],
                "model": record.model.model_copy(update={"name": f"{home}/models/my llama"}),
                "data": record.data.model_copy(update={"origin": "/mnt/anna/data/sst2"}),
                "extra": {"endpoint": {"base_url": f"https://anna:{SECRET}@host/v1"}},
            }
        )
        for record in records
    ]
    failed = make_record("mole", "sst2", status="failed", error=f"OSError: {home}/x/y.bin is missing")
    items[records[0].cell][0] = items[records[0].cell][0].model_copy(
        update={"prompt": f"print('/usr/share/dict/words') {SECRET}", "outputs": [[-1e30, False], [-1.0, True]]}
    )
    info = RunInfo(
        name="mine",
        commands=[Command(time="2026-01-01T00:00:00+00:00", arguments=["run", "--model", f"{home}/models/my llama"])],
        variants=[PlannedVariant(config={"experts": {"paths": {"math": f"{home}/lora/math"}}, "data": str(home)})],
        cells=[
            PlannedCell(cell=r.cell, method=r.spec.method, task=r.spec.task, seed=r.spec.seed, model=r.spec.model)
            for r in [*records, failed]
        ],
    )
    folder = RunFolder(home / "runs" / "mine", info)
    folder.write_plan(info)
    for record in records:
        folder.write_cell(record, items[record.cell])
    folder.write_cell(failed, [])
    return folder.path


def loaded(folder: Path, cache: Path, *config: str) -> Any:
    from datasets import load_dataset

    return load_dataset(str(folder), *config, cache_dir=str(cache))["train"]


def test_the_data_set_loads_without_a_network_and_holds_every_cell_and_item(run: Path, tmp_path: Path) -> None:
    (repository,) = stage(run, "anna/mine", tmp_path / "out")
    cells = loaded(repository.folder, tmp_path / "cache")
    assert [row["status"] for row in cells] == ["done"] * 4 + ["failed"]
    folder = RunFolder.open(run)
    for row, record in zip(cells, folder.records(), strict=True):
        assert (row["cell"], row["method"], row["task"]) == (record.cell, record.spec.method, record.spec.task)
        if record.status == "done":
            assert row["value"] == record.metrics[record.primary].value
            assert json.loads(row["record"])["metrics"] == record.model_dump(mode="json")["metrics"]
    items = loaded(repository.folder, tmp_path / "cache", "items")
    assert len(items) == 80
    stored = [item for record in folder.records() for item in folder.items(record.cell)]
    for row, item in zip(items, stored, strict=True):
        assert (row["id"], row["gold"], row["prediction"], row["choices"]) == (
            item.id, item.gold, item.prediction, item.choices,
        )  # fmt: skip
        assert json.loads(row["outputs"]) == [list(output) for output in item.outputs]
        assert row["score"] == item.metrics["acc"]


def test_nothing_of_the_machine_is_in_it(run: Path, home: Path, tmp_path: Path) -> None:
    (repository,) = stage(run, "anna/mine", tmp_path / "out")
    rows = [*loaded(repository.folder, tmp_path / "cache"), *loaded(repository.folder, tmp_path / "cache", "items")]
    texts = [str(row) for row in rows]
    texts += [file.read_text() for file in repository.files if file.suffix in (".md", ".yaml")]
    assert len(texts) == 87
    for text in texts:
        assert str(home) not in text
        assert "anna smith" not in text
        assert "/mnt/anna" not in text
        assert SECRET not in text
    plan = yaml.safe_load((repository.folder / "run.yaml").read_text())
    assert plan["commands"][0]["arguments"] == ["run", "--model", "…/my llama"]
    assert plan["variants"][0]["config"]["experts"]["paths"] == {"math": "…/math"}
    # What the model read and said is the benchmark's: it keeps its paths.
    assert rows[5]["prompt"] == "print('/usr/share/dict/words') [secret]"


def test_the_card_shows_the_comparison_its_sources_and_how_to_load_it(run: Path, tmp_path: Path) -> None:
    (repository,) = stage(run, "anna/mine", tmp_path / "out")
    _, head, text = (repository.folder / "README.md").read_text().split("---\n", 2)
    configs = yaml.safe_load(head)["configs"]
    assert [(one["config_name"], one.get("default")) for one in configs] == [("records", True), ("items", None)]
    assert 'load_dataset("anna/mine", "items", split="train")' in text
    assert "| mixer |" in text
    assert "| arc-e | bundled (…/sst2) |" in text
    assert "    harness run --model …/my llama" in text


def test_what_would_be_pushed_is_printed_and_pushed_is_what_was_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.sharing.publish.offline", lambda: False)
    made = stage(run, "anna/mine", tmp_path / "out")
    hub = Hub()
    push(made, public=False, api=hub)
    assert hub.created == [("anna/mine", "dataset", True)]
    assert hub.uploaded == [("anna/mine", "dataset", ["README.md", "items.parquet", "records.parquet", "run.yaml"])]
    push(made, public=True, api=hub)
    assert hub.created[-1] == ("anna/mine", "dataset", False)


def test_a_public_repository_is_not_filled_by_who_expects_a_private_one(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.sharing.publish.offline", lambda: False)
    hub = Hub(existing={"anna/mine": False})
    with pytest.raises(HarnessError, match="exists and is public: say --public, or choose another --to"):
        push(stage(run, "anna/mine", tmp_path / "out"), public=False, api=hub)
    assert hub.uploaded == []


class Hub:
    """What `push` uses of `huggingface_hub.HfApi`, with its signatures."""

    def __init__(self, existing: dict[str, bool] | None = None) -> None:
        self.existing = existing or {}
        self.created: list[tuple[str, str, bool]] = []
        self.uploaded: list[tuple[str, str, list[str]]] = []

    def repo_exists(self, repo_id: str, *, repo_type: str) -> bool:
        return repo_id in self.existing

    def repo_info(self, repo_id: str, *, repo_type: str) -> Any:
        return SimpleNamespace(private=self.existing[repo_id])

    def create_repo(self, repo_id: str, *, repo_type: str, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        self.created.append((repo_id, repo_type, private))

    def upload_folder(self, *, repo_id: str, folder_path: Path, repo_type: str, commit_message: str) -> None:
        self.uploaded.append((repo_id, repo_type, sorted(path.name for path in folder_path.iterdir())))


def test_the_fake_hub_has_the_real_ones_parameters() -> None:
    import inspect

    from huggingface_hub import HfApi

    for name in ("repo_exists", "repo_info", "create_repo", "upload_folder"):
        real, fake = (inspect.signature(getattr(cls, name)).parameters for cls in (HfApi, Hub))
        assert fake.keys() <= real.keys(), name


def test_a_hub_that_is_away_is_one_sentence(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    monkeypatch.setattr("harness.sharing.publish.offline", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    api = HfApi(endpoint="http://127.0.0.1:9", token="hf_x")
    with pytest.raises(HarnessError, match=r"^The hub did not take it \(.*\): check the network and `hf auth login`"):
        push(stage(run, "anna/mine", tmp_path / "out"), public=False, api=api)


def test_offline_is_one_sentence_and_a_dry_run_is_not_asked(
    run: Path, tmp_path: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("harness.sharing.publish.offline", lambda: True)
    said = refusal("publish", str(run), "--to", "anna/mine", stages=tmp_path / "stages")
    assert said == (
        "harness: HF_HUB_OFFLINE is set, so nothing can be pushed: unset it, or write what would be with --dry-run DIR."
    )
    from harness.commands.publish import publish_command

    publish_command(run, "anna/mine", None, None, None, None, "composed", False, tmp_path / "out")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "https://huggingface.co/datasets/anna/mine (would be pushed, private):"
    assert [line.split()[0] for line in lines[1:]] == [
        "dataset/README.md", "dataset/items.parquet", "dataset/records.parquet", "dataset/run.yaml",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("to", "words"),
    [("mine", "--to takes ORG/NAME, not 'mine'"), ("anna/mine--x", "The hub takes no repository named")],
)
def test_a_name_that_the_hub_does_not_take_is_one_sentence(run: Path, tmp_path: Path, to: str, words: str) -> None:
    with pytest.raises(HarnessError, match=words):
        stage(run, to, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(HarnessError, match="is not empty: choose another"):
        stage(run, "anna/mine", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_a_run_without_a_result_is_not_published(home: Path, tmp_path: Path) -> None:
    record = make_record(status="failed", error="x")
    cell = PlannedCell(cell=record.cell, method="mixer", task="sst2", seed=0, model="m")
    folder = RunFolder(home / "empty", RunInfo(name="empty", cells=[cell]))
    folder.write_plan(folder.info)
    folder.write_cell(record, make_items([]))
    with pytest.raises(HarnessError, match=r"Nothing in .* is finished yet"):
        stage(folder.path, "anna/mine", tmp_path / "out")
    assert not (tmp_path / "out").exists()
