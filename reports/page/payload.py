"""What the page's script needs: all items and cells, texts stored once, compressed."""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from results.schema import Item, Record


class _Texts:
    """Each distinct text once; items refer to it by its place."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self.places.setdefault(text, len(self.places))


def payload(records: Sequence[Record], items: Mapping[str, Sequence[Item]]) -> str:
    """Base64 of gzipped JSON: `texts`, and `cells` with their items in columns. Equal input gives equal text.

    A cell has method, task, seed, hash, name and unit of the primary metric, its record without training log and
    per-module diagnostics, and one array per column of its items: `id`, `prompt`, `gold`, `prediction`, `outputs`,
    `choices`, `metrics`, `extra` (places in `texts`, the latter four as JSON) and `value` (primary metric).
    """
    texts = _Texts()
    cells = [_cell(record, items.get(record.cell, ()), texts) for record in records]
    data = json.dumps({"texts": list(texts.places), "cells": cells}, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(data.encode(), 6, mtime=0)).decode()


def _cell(record: Record, items: Sequence[Item], texts: _Texts) -> dict[str, Any]:
    primary = record.metrics.get(record.primary)
    described = record.model_dump(mode="json", exclude={"training_log": True, "routing": {"per_module"}})
    return {
        "method": record.spec.method,
        "task": record.spec.task,
        "seed": record.spec.seed,
        "hash": record.cell,
        "status": record.status,
        "primary": record.primary,
        "unit": primary.unit if primary else "fraction",
        "record": texts(_json(described, indent=1)),
        "id": [texts(item.id) for item in items],
        "prompt": [texts(item.prompt) for item in items],
        "gold": [texts(item.gold) for item in items],
        "prediction": [texts(item.prediction) for item in items],
        "outputs": [texts(_json(item.outputs)) for item in items],
        "choices": [texts(_json(item.choices)) for item in items],
        "metrics": [texts(_json(item.metrics)) for item in items],
        "extra": [texts(_json(item.extra)) for item in items],
        "value": [_plain(item.metrics.get(record.primary)) for item in items],
    }


def _json(value: Any, indent: int | None = None) -> str:
    """JSON that browsers read: infinite and undefined numbers become text."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    except ValueError:
        return json.dumps(_plain(value), ensure_ascii=False, indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
