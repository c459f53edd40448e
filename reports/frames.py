"""Records and items as pandas data frames, for analyses that the harness does not make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reports.scores import Items, flat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from results.schema import Record


def records_frame(records: Sequence[Record]) -> pd.DataFrame:
    """One row per cell; nested fields become dotted columns (`spec.method`, `metrics.acc.value`, ...).

    Training logs and per-module diagnostics are left out: they are series of their own.
    """
    import pandas as pd

    exclude: Any = {"training_log": True, "routing": {"per_module"}}
    return pd.DataFrame([flat(record.model_dump(mode="json", exclude=exclude)) for record in records])


def items_frame(records: Sequence[Record], items: Items) -> pd.DataFrame:
    """One row per item of every finished cell: method, task, seed, item, prediction, gold, and `metrics.NAME`."""
    import pandas as pd

    rows = [
        {
            "model": record.model.label,
            "method": record.spec.method,
            "task": record.spec.task,
            "seed": record.spec.seed,
            "cell": record.cell,
            "item": item.id,
            "prediction": item.prediction,
            "gold": item.gold,
            **{f"metrics.{name}": value for name, value in item.metrics.items()},
        }
        for record in records
        if record.status == "done"
        for item in items[record.cell]
    ]
    return pd.DataFrame(rows)


def tidy_records(records: Sequence[Record], variants: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """`records_frame` with what every analysis starts from in front, under short names.

    Args:
        variants: labels that planned cells carry, by cell; a cell of several stands once for each.
    """
    import pandas as pd

    frame = records_frame(records)
    front = [
        {
            "method": record.spec.method,
            "task": record.spec.task,
            "seed": record.spec.seed,
            "variant": label,
            "status": record.status,
            "primary": record.primary,
            "value": record.metrics[record.primary].value if record.primary in record.metrics else None,
            "row": row,
        }
        for row, record in enumerate(records)
        for label in (variants.get(record.cell) or [""])
    ]
    if not front:
        return frame
    rest = frame.drop(columns=["status", "primary"]).reset_index(names="row")
    return pd.DataFrame(front).merge(rest, on="row").drop(columns="row")


def tidy_items(records: Sequence[Record], items: Items) -> pd.DataFrame:
    """One row an item of every finished cell: method, task, seed, item, prompt, choices, outputs, log-likelihoods of
    the choices (None where texts were generated), gold, prediction, `score` (the primary metric) and every metric."""
    import pandas as pd

    rows = [
        {
            "method": record.spec.method,
            "task": record.spec.task,
            "seed": record.spec.seed,
            "item": item.id,
            "prompt": item.prompt,
            "choices": item.choices,
            "outputs": item.outputs,
            "loglikelihoods": None if item.choices is None else [float(output[0]) for output in item.outputs],
            "gold": item.gold,
            "prediction": item.prediction,
            "score": item.metrics.get(record.primary),
            **item.metrics,
        }
        for record in records
        if record.status == "done"
        for item in items[record.cell]
    ]
    return pd.DataFrame(rows)
