"""A run as a data set: one row a cell, one row an item, both as Parquet that `datasets.load_dataset` reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from harness.sharing.scrub import Scrubber
from results.schema import Item, Record
from results.store import RunFolder

if TYPE_CHECKING:
    import pyarrow

RECORDS, ITEMS = "records.parquet", "items.parquet"

RECORD_COLUMNS = {
    "cell": ("string", "Name of the cell: the hash of everything that determines it."),
    "variant": ("list", "Labels of the variants that asked for it; empty for a plain run."),
    "method": ("string", "Display name with deviations from the defaults."),
    "task": ("string", "Display name with deviations from the defaults."),
    "seed": ("int64", "Seed of training and of everything drawn."),
    "model": ("string", "The base model."),
    "status": ("string", "`done`, `failed` or `refused`."),
    "error": ("string", "One sentence when it failed or was refused."),
    "track": ("string", "`compose`, `joint` or `reference`."),
    "knows_task": ("bool", "Whether the method is told the task at test time."),
    "metric": ("string", "The task's primary metric."),
    "value": ("float64", "Its value."),
    "items": ("int64", "Items evaluated."),
    "unscored": ("int64", "Items without a verdict."),
    "chance": ("float64", "Expected value of a uniform guess."),
    "majority": ("float64", "Value of always giving the most frequent answer."),
    "trained_parameters": ("int64", "Parameters trained in the cell's own fit."),
    "stored_parameters": ("int64", "Frozen parameters beside the base."),
    "seconds_experts": ("float64", "Wall seconds of its experts' training."),
    "seconds_fit": ("float64", "Wall seconds of its fit."),
    "seconds_evaluate": ("float64", "Wall seconds of its evaluation."),
    "record": ("string", "The whole record as JSON."),
}
ITEM_COLUMNS = {
    "cell": ("string", "The cell that it belongs to."),
    "method": ("string", "As in the records."),
    "task": ("string", "As in the records."),
    "seed": ("int64", "As in the records."),
    "id": ("string", "The item's id in its source."),
    "prompt": ("string", "Context after few-shot examples and template; the shared few-shot prefix elided."),
    "choices": ("list", "Choices, for likelihood tasks."),
    "outputs": ("string", "Raw outputs as JSON: [log-likelihood, is greedy] for each choice, or texts."),
    "gold": ("string", "Gold answer."),
    "prediction": ("string", "Parsed prediction."),
    "score": ("float64", "Value of the primary metric; null without a verdict."),
    "metrics": ("string", "All metrics as JSON."),
    "group": ("string", "Items with the same one share a passage, a sentence or a question; null if alone."),
    "extra": ("string", "Details of the verdict as JSON."),
}


def write_dataset(run: RunFolder, folder: Path, scrub: Scrubber) -> dict[str, int]:
    """Write `records.parquet`, `items.parquet` and `run.yaml`.

    Args:
        run: its planned cells are written, each once.
        folder: exists.
        scrub: what takes paths and secrets out.

    Returns:
        Rows by file.
    """
    labels: dict[str, list[str]] = {}
    for planned in run.info.cells:
        labels.setdefault(planned.cell, []).extend(filter(None, [planned.variant]))
    records = run.records()
    rows = [_record_row(record, labels[record.cell], scrub) for record in records]
    _write(folder / RECORDS, RECORD_COLUMNS, iter([rows]))
    counts = {RECORDS: len(rows), ITEMS: sum(record.n_items for record in records if record.status == "done")}
    done = (record for record in records if record.status == "done")
    _write(folder / ITEMS, ITEM_COLUMNS, ([_item_row(r, item, scrub) for item in run.items(r.cell)] for r in done))
    plan = scrub.value(run.info.model_dump(mode="json"))
    (folder / "run.yaml").write_text(
        yaml.safe_dump(plan, sort_keys=False, allow_unicode=True, width=110), encoding="utf-8"
    )
    return counts


def _record_row(record: Record, labels: list[str], scrub: Scrubber) -> dict[str, Any]:
    data = scrub.value(record.model_dump(mode="json"))
    primary = record.metrics.get(record.primary)
    seconds = record.cost.seconds
    return {
        "cell": record.cell,
        "variant": scrub.value(labels),
        "method": data["spec"]["method"],
        "task": data["spec"]["task"],
        "seed": record.spec.seed,
        "model": data["model"]["label"],
        "status": record.status,
        "error": data["error"],
        "track": record.track,
        "knows_task": record.uses_task_identity,
        "metric": record.primary,
        "value": None if primary is None else primary.value,
        "items": record.n_items,
        "unscored": record.n_unscored,
        "chance": record.chance,
        "majority": record.majority,
        "trained_parameters": sum(record.parameters.trainable.values()),
        "stored_parameters": sum(record.parameters.stored.values()),
        "seconds_experts": seconds.get("experts"),
        "seconds_fit": seconds.get("fit"),
        "seconds_evaluate": seconds.get("evaluate"),
        "record": _json(data),
    }


def _item_row(record: Record, item: Item, scrub: Scrubber) -> dict[str, Any]:
    """Prompts, answers and outputs are the benchmark's and the model's: they stay as they are but for secrets."""
    return {
        "cell": record.cell,
        "method": scrub.value(record.spec.method),
        "task": scrub.value(record.spec.task),
        "seed": record.spec.seed,
        "id": scrub.secrets(item.id),
        "prompt": scrub.secrets(item.prompt),
        "choices": None if item.choices is None else [scrub.secrets(choice) for choice in item.choices],
        "outputs": scrub.secrets(_json(item.outputs)),
        "gold": scrub.secrets(item.gold),
        "prediction": scrub.secrets(item.prediction),
        "score": item.metrics.get(record.primary),
        "metrics": _json(item.metrics),
        "group": item.group,
        "extra": _json(scrub.value(item.extra)),
    }


def _json(value: Any) -> str:
    """JSON as Python reads it: infinite log-likelihoods are `-Infinity`."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _write(path: Path, columns: dict[str, tuple[str, str]], batches: Iterator[list[dict[str, Any]]]) -> None:
    import pyarrow.parquet

    schema = _schema(columns)
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for rows in batches:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))


def _schema(columns: dict[str, tuple[str, str]]) -> pyarrow.Schema:
    import pyarrow

    types = {
        "string": pyarrow.string(),
        "int64": pyarrow.int64(),
        "float64": pyarrow.float64(),
        "bool": pyarrow.bool_(),
        "list": pyarrow.list_(pyarrow.string()),
    }
    return pyarrow.schema([(name, types[kind]) for name, (kind, _) in columns.items()])
