"""Records and items as pandas data frames, for analyses that the harness does not make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reports.scores import Items, flat

if TYPE_CHECKING:
    from collections.abc import Sequence

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
