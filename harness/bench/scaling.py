"""How the cost of routing grows with experts, rank, batch and context, beside what arithmetic alone would cost."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.bench.composed import TOP_K, base_model, copied, pool, routed
from harness.bench.measure import Options, Row, by_turns, multiply_adds
from harness.bench.routing import tokens

AXES: dict[str, tuple[int, ...]] = {
    "experts": (1, 2, 4, 8, 16, 32, 64),
    "rank": (4, 8, 16, 32, 64),
    "batch": (1, 2, 4, 8, 16),
    "context": (16, 64, 256, 512),
}
AROUND = {"experts": 6, "rank": 16, "batch": 4, "context": 64}
"""Where the other axes stay while one varies."""
LAYERS = 4


def scaling(options: Options) -> Iterator[Row]:
    """Prefill through the first layers of the model, without its head: all layers cost the same."""
    base: Any = base_model(options).model.base_model
    base.layers = base.layers[:LAYERS]
    model = copied(base)
    for axis, values in AXES.items():
        for value in values:
            if options.wants(f"{axis} {value}"):
                yield point(model, base, axis, value, options)


def point(model: Any, base: Any, axis: str, value: int, options: Options) -> Row:
    """One setting, routed and base."""
    at = {**AROUND, axis: value}
    composed = routed(model, pool(model, at["experts"], at["rank"]))
    ids = tokens(model, at["batch"], at["context"])
    ours, theirs = (partial(hidden, one, ids) for one in (model, base))
    limit = multiply_adds(ours) / multiply_adds(theirs)
    seconds, peer_seconds = by_turns(ours, theirs, options)
    composed.uninstall()
    return Row(
        name=f"{axis} {value}",
        setting=f"{at['experts']} experts, rank {at['rank']}, top-{TOP_K}, {at['batch']} prompts of {at['context']} "
        f"tokens, {LAYERS} layers without the head",
        peer="base model",
        seconds=seconds,
        peer_seconds=peer_seconds,
        limit=limit,
        kind="overhead",
        axis=axis,
        value=value,
    )


@torch.no_grad()
def hidden(model: Any, ids: Tensor) -> Tensor:
    """Last hidden states of prompts `[rows, length]`."""
    last: Tensor = model(input_ids=ids, use_cache=False).last_hidden_state
    return last


def draw(rows: list[Row], path: Path) -> None:
    """One panel per axis: measured cost as points, the arithmetic limit as a line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "scaling"
    axes = list(dict.fromkeys(row.axis for row in rows))
    figure, panels = pyplot.subplots(1, len(axes), figsize=(3.2 * len(axes), 3.2), sharey=True, squeeze=False)
    for panel, axis in zip(panels[0], axes, strict=True):
        own = [row for row in rows if row.axis == axis]
        values = [row.value for row in own]
        panel.plot(values, [row.limit for row in own], color="0.4", label="arithmetic limit")
        panel.plot(values, [row.ratio for row in own], "o", color="C0", label="measured")
        panel.set_xscale("log", base=2)
        panel.set_xticks(values, [str(value) for value in values])
        panel.set_xlabel({"context": "context length"}.get(axis, axis))
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("cost of a prefill, base = 1")
    panels[0][0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)
