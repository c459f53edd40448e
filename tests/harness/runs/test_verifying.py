"""`harness verify` reads every byte that a run stands on, and computes cells again apart from what is stored."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.evaluation import again
from harness.planning.variants import here
from results.behind import behind
from results.ground.errors import HarnessError
from results.schema import Item, Record
from results.stages import Stages
from results.store import RunFolder
from tests.harness.runs.command import call, content
from tests.results.test_store import make_record
from tests.tasks.conftest import ROWS, write_rows

system = [pytest.mark.assets, pytest.mark.model]


@pytest.fixture
def own(run: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run with stages of its own."""
    shutil.copytree(home / "stages", tmp_path / "stages")
    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    return run


class TestStages:
    """The stages behind a run."""

    pytestmark = system

    def test_each_kind_of_damage_is_named_and_nothing_is_changed(
        self, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert call("verify", str(own)) == 0
        assert "6 of 6 stages stored, 0 damaged; 0 problems." in capsys.readouterr().out
        store = tmp_path / "stages"
        named = sorted({name for cell in RunFolder.open(own).info.cells for name in cell.stages})
        one, two, *_ = (store / name for name in named if name.startswith("expert/"))
        with (one / "adapter_model.safetensors").open("ab") as weights:
            weights.write(b"x")
        data = bytearray((two / "adapter_model.safetensors").read_bytes())
        data[-9] ^= 0x41
        (two / "adapter_model.safetensors").write_bytes(data)
        (two / "meta.json").unlink()
        (fit,) = (store / name for name in named if name.startswith("composed/"))
        (fit / "DONE").write_bytes(b"")
        shutil.rmtree(store / "outputs")
        before = content(store)
        assert call("verify", str(own)) == 1
        said = capsys.readouterr().out
        assert f"expert/{one.name}: adapter_model.safetensors has" in said
        assert f"expert/{two.name}: adapter_model.safetensors is not the file that was written" in said
        assert f"expert/{two.name}: meta.json is gone" in said
        assert f"composed/{fit.name}: its DONE is cut off" in said
        assert "4 of 6 stages stored, 3 damaged; 4 problems." in said
        assert content(store) == before

    def test_half_a_plan_ends_it_with_one_sentence(self, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
        whole = (own / "run.yaml").read_bytes()
        for size in (0, 5, len(whole) // 2, len(whole) - 40):
            (own / "run.yaml").write_bytes(whole[:size])
            assert call("verify", str(own)) in (1, 2), size
            captured = capsys.readouterr()
            assert "run.yaml" in captured.out + captured.err, size
            assert "Traceback" not in captured.err

    def test_failed_cells_are_counted_and_named(self, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = RunFolder.open(own)
        record = folder.records()[0]
        folder.write_cell(record.model_copy(update={"status": "failed", "error": "the cable was cut"}), [])
        assert call("verify", str(own)) == 1
        said = capsys.readouterr().out
        assert "it failed: the cable was cut" in said
        assert "2 cells, 1 failed" in said


class TestAgain:
    """`--recompute`."""

    pytestmark = system

    def test_cells_come_out_again_and_the_store_is_left_alone(
        self, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = content(tmp_path / "stages")
        assert call("verify", str(own), "--recompute", "5") == 0
        assert "2 of 2 cells computed again (seed 0): equal." in capsys.readouterr().out
        assert content(tmp_path / "stages") == before

    def test_a_score_that_was_made_up_is_found_though_every_hash_is_right(
        self, own: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = RunFolder.open(own)
        record = next(one for one in folder.records() if one.spec.method == "mixer")
        items = folder.items(record.cell)
        right = [item.model_copy(update={"metrics": {**item.metrics, record.primary: 1.0}}) for item in items]
        better = record.metrics[record.primary].model_copy(update={"value": 1.0})
        folder.write_cell(record.model_copy(update={"metrics": {**record.metrics, record.primary: better}}), right)
        assert call("verify", str(own)) == 0
        assert call("verify", str(own), "--recompute", "2") == 1
        said = capsys.readouterr().out
        assert f"computed again: {record.primary} is" in said
        assert "of 4 items have another outcome" in said

    def test_rounding_is_told_from_what_was_made_up(
        self, own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Likelihoods a little apart, and outcomes that follow from them or do not."""
        folder = RunFolder.open(own)
        before = [(record, folder.items(record.cell)) for record in folder.records()]
        compute = again._computed
        made: list[Any] = []

        def computed_once(*given: Any) -> Any:
            """What is stored changes from case to case, and not what comes out again."""
            made.extend([] if made else [compute(*given)])
            return made[0]

        monkeypatch.setattr(again, "_computed", computed_once)
        for nats, invented, code, said in (
            (0.001, False, 0, "equal but for rounding"),
            (0.001, True, 1, "see above"),
            (2.0, False, 1, "see above"),
        ):
            for record, items in before:
                store(folder, record, moved(items, nats, record.primary, invented))
            assert call("verify", str(own), "--recompute", "2") == code, (nats, invented)
            out = capsys.readouterr().out
            assert f"2 of 2 cells computed again (seed 0): {said}." in out
            assert "Records were made on another card." in out
            assert ("nats apart in the mean" in out) == (code == 0)

    def test_without_its_experts_a_cell_cannot_be_computed_again(
        self, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.rmtree(tmp_path / "stages" / "expert")
        assert call("verify", str(own), "--recompute", "9") == 0
        assert "1 of 1 cells computed again" in capsys.readouterr().out


def store(folder: RunFolder, record: Record, items: list[Item]) -> None:
    """Write a cell with these items and the mean of their outcomes, as made on other hardware."""
    mean = sum(item.metrics[record.primary] or 0.0 for item in items) / len(items)
    metrics = {**record.metrics, record.primary: record.metrics[record.primary].model_copy(update={"value": mean})}
    environment = record.environment.model_copy(update={"hardware": "another card"})
    folder.write_cell(record.model_copy(update={"metrics": metrics, "environment": environment}), items)


def moved(items: list[Item], nats: float, metric: str, invented: bool) -> list[Item]:
    """All likelihoods are so much higher; of what is invented, the first item has another outcome too."""
    found = []
    for item in items:
        outputs = [[value + nats, greedy] for value, greedy in item.outputs]
        turn = invented and item is items[0]
        outcome = 1.0 - (item.metrics[metric] or 0.0) if turn else item.metrics[metric]
        found.append(item.model_copy(update={"outputs": outputs, "metrics": {**item.metrics, metric: outcome}}))
    return found


class TestElsewhere:
    """`--recompute` of a run that was made on another machine, whose folders a publication shortens to `…/NAME`."""

    pytestmark = system

    @pytest.fixture
    def published(self, own: Path) -> Path:
        folder = RunFolder.open(own)
        there = [one.model_copy(update={"config": {**one.config, "data": "…/rows"}}) for one in folder.info.variants]
        with folder.lock():
            folder.write_plan(folder.info.model_copy(update={"variants": there}))
        return own

    def test_what_lay_in_folders_there_is_named_here(self, published: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("verify", str(published), "--recompute", "5") == 2
        assert "…/rows stands for a folder of the machine" in capsys.readouterr().err
        assert call("verify", str(published), "--recompute", "5", "--data", "bundled") == 0
        assert "2 of 2 cells computed again (seed 0): equal." in capsys.readouterr().out

    def test_other_rows_are_other_cells(
        self, published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("sst2", "mrpc"):
            for split, numbers in (("train", range(300)), ("validation", range(300, 320))):
                rows = [ROWS["glue", name][1](n) for n in numbers]
                write_rows(tmp_path / "glue" / name / f"{split}.jsonl", rows)
        assert call("verify", str(published), "--recompute", "5", "--data", f"bundled,glue={tmp_path}") == 2
        assert "whose versions and data are those of now" in capsys.readouterr().err

    def test_places_alone_say_nothing(self, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("verify", str(own), "--data", "bundled") == 2
        assert "say --recompute N too" in capsys.readouterr().err


STUDY = Path("results/reference/smollm2-135m")


def test_experts_of_another_machine_are_taken_from_here(tmp_path: Path) -> None:
    shown = {name: path for one in here(STUDY, {}) for name, path in one.config.experts.paths.items()}
    moved = here(STUDY, {"experts": ["reference"], "data": str(tmp_path)})
    for variant in moved:
        assert variant.config.data == str(tmp_path)
        assert list(variant.config.experts.names) == list(shown)
        for name, path in variant.config.experts.paths.items():
            assert Path(path) == (STUDY / "pool" / name).absolute()
    one = here(STUDY, {"experts": ["sst2=/mine", "other=/mine"]})[0].config.experts.paths
    assert one == {**here(STUDY, {})[0].config.experts.paths, "sst2": "/mine"}


@pytest.mark.parametrize("experts", ["sst2", "sst3=/no/such/folder"])
def test_experts_that_the_run_has_from_no_folder_are_refused(experts: str) -> None:
    with pytest.raises(HarnessError, match="that came from a folder is among those"):
        here(STUDY, {"experts": [experts]})


def test_stages_that_are_gone_are_no_fault(tmp_path: Path) -> None:
    record = make_record()
    from tests.results.test_store import new_run

    folder = new_run(tmp_path / "run", record)
    cells = [folder.info.cells[0].model_copy(update={"stages": ["expert/a", "outputs/b"]})]
    stages = Stages(tmp_path / "stages")
    with stages.create("expert", "a") as stage:
        (stage / "x").write_text("x")
    found = behind(folder.info.model_copy(update={"cells": cells}), stages)
    assert (found.whole, found.gone, found.faults) == (("expert/a",), ("outputs/b",), {})
