"""The files that lm-evaluation-harness's own tools read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from reports import lm_eval as ours
from reports.api import ReportError, render
from reports.render.options import TableOptions
from results.schema import Command, Metric, RunInfo

DATE = "2026-01-01T00-00-00"


@pytest.fixture
def run(factory: ModuleType, stored: Callable[..., Path]) -> Path:
    """Two methods on a choice, a pair-scored and a generative task; one item of the latter has no verdict."""
    records, items = factory.make_grid(
        methods=("base", "mixer[route.eval_k=1]"), tasks=("sst2", "cola", "gsm8k"), seeds=(0,), n=8
    )
    for index, record in enumerate(records):
        own = items[record.cell]
        if record.spec.task == "cola":
            pairs = {"extra": {"gold_index": 1, "predicted_index": 0}}
            items[record.cell] = [item.model_copy(update=pairs) for item in own]
            metrics = {**record.metrics, "mcc": Metric(value=0.25, n=8, unit="mcc")}
            records[index] = record.model_copy(update={"metrics": metrics})
        if record.spec.task == "gsm8k":
            text = {"choices": None, "outputs": ["so 42", "or 7"], "metrics": {"acc": 1.0, "bits_per_byte": 0.5}}
            items[record.cell] = [item.model_copy(update=text) for item in own]
            items[record.cell][0] = own[0].model_copy(update={**text, "metrics": {"acc": None, "bits_per_byte": 0.5}})
            bits = Metric(value=0.5, n=8, unit="bits/byte", higher_is_better=False)
            metrics = {"acc": Metric(value=1.0, n=7), "bits_per_byte": bits}
            records[index] = record.model_copy(update={"metrics": metrics, "n_unscored": 1})
    return stored(records, items)


def read(paths: list[Path]) -> dict[str, tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]]:
    """Results and samples by folder, found by lm-eval's own rules for names."""
    from lm_eval.utils import get_file_datetime, get_file_task_name, get_results_filenames, get_sample_results_filenames

    names = [str(path) for path in paths]
    found = {}
    for name in get_results_filenames(names):
        folder = Path(name).parent
        samples = [Path(one) for one in get_sample_results_filenames(names) if Path(one).parent == folder]
        assert {get_file_datetime(one.name) for one in samples} == {DATE}
        lines = {get_file_task_name(one.name): list(map(json.loads, one.read_text().splitlines())) for one in samples}
        found[folder.name] = (json.loads(Path(name).read_text()), lines)
    return found


def test_make_table_prints_every_metric(run: Path) -> None:
    from lm_eval.utils import make_table, sanitize_model_name

    found = read(render(run, formats=["lm-eval"]))
    assert set(found) == {"base", sanitize_model_name("mixer[route.eval_k=1]")}
    for result, _ in found.values():
        lines = [line.replace(" ", "") for line in make_table(result).splitlines() if line.startswith("|")][2:]
        shown = {tuple(line.split("|")[3:6]): line.split("|")[6:10] for line in lines}
        assert shown["none", "0", "mcc"] == ["↑", "0.250", "±", "N/A"]
        assert shown["none", "0", "gold_bits_per_byte"] == ["↓", "0.500", "±", "0"]
        assert len(lines) == 5


def test_errors_are_lm_evals(run: Path) -> None:
    from lm_eval.api.metrics import mean_stderr

    result, samples = read(render(run, formats=["lm-eval"]))["base"]
    values = [line["acc"] for line in samples["sst2"]]
    assert result["results"]["sst2"]["acc,none"] == pytest.approx(sum(values) / 8)
    assert result["results"]["sst2"]["acc_stderr,none"] == pytest.approx(mean_stderr(values))
    assert samples["gsm8k"][0]["acc"] is None
    assert result["n-samples"]["sst2"] == {"original": 8, "effective": 8}


def test_keys_are_those_of_lm_evals_schema(run: Path) -> None:
    from lm_eval.result_schema import EvalResults, SampleResult

    for result, samples in read(render(run, formats=["lm-eval"])).values():
        assert set(result) <= set(EvalResults.__annotations__)
        assert {"results", "configs", "versions", "n-shot", "n-samples", "config", "group_subtasks"} <= set(result)
        for lines in samples.values():
            assert all(set(SampleResult.__annotations__) <= set(line) for line in lines)


def test_loggers_read_the_samples(run: Path) -> None:
    """The frame of the W&B logger and the trace of the Trackio logger are built from the files' samples."""
    from lm_eval.loggers.trackio_logger import _sample_to_trace
    from lm_eval.loggers.wandb_logger import WandbLogger

    class Trackio:
        Trace = staticmethod(lambda **fields: fields)

    result, samples = read(render(run, formats=["lm-eval"]))["base"]
    logger = WandbLogger.__new__(WandbLogger)
    logger.post_init(result)
    assert logger._sanitize_results_dict()[1]["sst2/acc"] == result["results"]["sst2"]["acc,none"]
    for task, lines in samples.items():
        # In memory, lm-eval holds arguments and likelihoods as they were before its files made them named and text.
        memory = [{**line, "arguments": [tuple(one.values()) for one in line["arguments"].values()]} for line in lines]
        if result["configs"][task]["output_type"] == "multiple_choice":
            for line in memory:
                line["filtered_resps"] = [[float(ll), flag == "True"] for ll, flag in line["filtered_resps"]]
                line["resps"] = [[answer] for answer in line["filtered_resps"]]
        frame = logger._generate_dataset(memory, result["configs"][task])
        assert len(frame) == len(lines)
        trace = _sample_to_trace(Trackio, lines[0], task, result["configs"][task]["output_type"])
        assert trace["metadata"]["task"] == task
    assert samples["gsm8k"][1]["resps"] == [["so 42", "or 7"]]
    assert samples["cola"][0]["mcc"] == [1, 0]


def test_models_seeds_and_new_names_have_folders_of_their_own(factory: ModuleType, stored: Callable[..., Path]) -> None:
    records, items = factory.make_grid(methods=("base", "mixer"), tasks=("sst2",), seeds=(0, 1), n=4)
    run = stored(records, items)
    names = {
        path.parent.name for path in render(run, formats=["lm-eval"], options=TableOptions(rename={"mixer": "Ours"}))
    }
    assert names == {"base@seed-0", "base@seed-1", "Ours@seed-0", "Ours@seed-1"}
    with pytest.raises(ReportError, match="share the folder"):
        ours.write(run, RunInfo(name="x", commands=[Command(time="2026-01-01")]), records, items, {"mixer": "base"})
    with pytest.raises(ReportError, match="no time of its start"):
        ours.write(run, RunInfo(name="x"), records, items)


def test_every_cell_is_written_under_the_name_of_its_setting_and_base_model(
    factory: ModuleType, stored: Callable[..., Path]
) -> None:
    """Two numbers of routing examples on two base models: four results, each with its own score and its own seconds."""
    records, items, right = [], {}, {}
    for model in ("A", "B"):
        for examples in (32, 64):
            record = factory.make_record(training={"examples": examples}, model=model, n=4)
            seconds = {"evaluate": float(examples)}
            records.append(record.model_copy(update={"cost": record.cost.model_copy(update={"seconds": seconds})}))
            right[f"mixer (examples={examples})@{model}"] = len(right) / 4
            items[record.cell] = factory.make_items([1.0] * len(items) + [0.0] * (4 - len(items)))
    found = read(render(stored(records, items), formats=["lm-eval"]))
    shown = {name: samples["sst2"] for name, (_, samples) in found.items()}
    assert {name: sum(line["acc"] for line in lines) / 4 for name, lines in shown.items()} == right
    for name, (result, _) in found.items():
        assert result["model_name"] == name
        assert result["total_evaluation_time_seconds"] == ("32.0" if "=32" in name else "64.0")


def test_tasks_that_would_share_a_file_are_refused(factory: ModuleType, stored: Callable[..., Path]) -> None:
    records, items = factory.make_grid(methods=("base",), tasks=("a/b", "a|b"), seeds=(0,), n=2)
    with pytest.raises(ReportError, match="Two tasks of base have one name"):
        render(stored(records, items), formats=["lm-eval"])
