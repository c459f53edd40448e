"""`harness params`: what every method trains and stores, counted from an architecture alone."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from harness.planning.sections import WIDEST
from results.ground.errors import HarnessError
from results.ground.names import unknown

if TYPE_CHECKING:
    from methods.architectures import Architecture
    from methods.counting import Count, Skeleton
    from reports.tables import Cell, Footnotes, Row, Table

# Our names by those of the paper's appendix A.4, which counts LLaMA-3-8B with six experts of rank 64.
PUBLISHED = {
    "mixer": "mixer_router_only",
    "mixer-joint": "mixer",
    "mixlora": "mixlora",
    "mole": "mole",
    "lorahub": "lorahub",
    "phatgoose": "phatgoose",
}
PUBLISHED_MODEL, PUBLISHED_RANK, PUBLISHED_EXPERTS = "llama3-8b", 64, 6


MOST = 10_000
"""Experts of a pool."""


def params_command(
    model: str, rank: int, experts: int, targets: list[str] | None, methods: list[str] | None, format: str
) -> None:
    """Print the table of counts.

    Raises:
        HarnessError: an unknown model, method, key or format, or targets that the model does not have.
    """
    from reports.render import FORMATS, text

    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if rank < 1 or experts < 1:
        raise HarnessError("A pool needs at least one expert of rank one: raise --rank and --experts.")
    if rank > WIDEST or experts > MOST:
        raise HarnessError(
            f"No pool has more than {MOST} experts or a rank above {WIDEST}: lower --rank and --experts."
        )
    if targets is not None and not all(target.strip() for target in targets or [""]):
        raise HarnessError("--targets names no layers: give some, or leave it out.")
    chosen = _methods(methods)
    table = _table(model, rank, experts, targets, chosen)
    if format == "text" and sys.stdout.isatty():
        typer.echo(text.render(table, shutil.get_terminal_size().columns))
    else:
        typer.echo(FORMATS[format][1](table))


def _methods(chosen: list[str] | None) -> list[tuple[str, str, Any]]:
    """Display name, registered name and method of each choice; all registered ones by default."""
    from methods import registry

    created = []
    for display in chosen or registry.usable():
        name, overrides = registry.parse(display)
        created.append((display, name, registry.create(name, overrides)))
    return created


def _skeleton(model: str, rank: int, experts: int, targets: list[str] | None) -> tuple[str, Skeleton]:
    """Label and skeleton of a shipped architecture, a bundled model, a folder or a hub id."""
    from methods.architectures import architectures, usual_targets
    from methods.counting import Skeleton

    shipped: Architecture | None = architectures().get(model)
    pool = [f"expert-{n + 1}" for n in range(experts)]
    if shipped is not None:
        return shipped.label, Skeleton.of(shipped, rank=rank, pool=pool, targets=targets)
    from harness.models import BUNDLED, model_config, resolve

    if model not in BUNDLED and "/" not in model and not Path(model).is_dir():
        raise unknown("model", model, [*architectures(), *BUNDLED])
    config = model_config(model)
    usual = targets or usual_targets(config.model_type)
    return resolve(model)[1], Skeleton(config, targets=usual, rank=rank, pool=pool)


def _table(
    model: str, rank: int, experts: int, targets: list[str] | None, chosen: Sequence[tuple[str, str, Any]]
) -> Table:
    from reports.comparison import PANEL_TITLES
    from reports.tables import Column, Footnotes, Panel, Table

    label, skeleton = _skeleton(model, rank, experts, targets)
    comparable = (model, rank, experts, targets) == (PUBLISHED_MODEL, PUBLISHED_RANK, PUBLISHED_EXPERTS, None)
    published = _published() if comparable else {}
    columns = [
        Column("trained", "trained", "count", None),
        Column("trained of base", "% base", "%", None, decimals=4),
        Column("trained of all", "% all", "%", None, decimals=4),
        *([Column("paper", "paper %", "%", None, decimals=2)] if published else []),
        Column("stored", "stored", "count", None),
        Column("stored of base", "% base", "%", None, decimals=3),
        Column("stored of all", "% all", "%", None, decimals=3),
        Column("groups", "trained by group", "text", None),
    ]
    footnotes = Footnotes()
    rows: dict[str, list[Row]] = {}
    for display, name, method in chosen:
        paper = published.get(PUBLISHED.get(name, "")) if display == name else None
        row = _row(display, skeleton.count(method), skeleton.parameters, paper, footnotes)
        rows.setdefault(method.track, []).append(row)
    titles = {"reference": "Without composition", **PANEL_TITLES}
    panels = tuple(Panel(track, title, tuple(rows[track])) for track, title in titles.items() if track in rows)
    return Table(
        "params",
        f"Parameters beside {label}",
        tuple(columns),
        panels,
        notes=_notes(label, skeleton, bool(published)),
        footnotes=footnotes.texts(),
    )


def _row(display: str, count: Count, base: int, paper: float | None, footnotes: Footnotes) -> Row:
    from methods.counting import shares
    from reports.notes import frozen_sentence, passes_sentence
    from reports.tables import Cell, Row

    cells: dict[str, Cell] = {}
    if count.refusal is not None:
        cells["trained"] = Cell(footnotes=(footnotes.key(count.refusal),))
    else:
        for key, total in (("trained", count.total_trainable), ("stored", count.total_stored)):
            share = shares(total, count, base)
            cells[key] = Cell(float(total))
            if key == "trained" and not total and (experts := count.stored.get("experts", 0)):
                cells[key] = Cell(0.0, footnotes=(footnotes.key(frozen_sentence(experts)),))
            cells[f"{key} of base"], cells[f"{key} of all"] = Cell(share.of_base), Cell(share.of_all)
        if count.passes > 1:
            note = footnotes.key(passes_sentence(count.passes))
            cells["trained"] = replace(cells["trained"], footnotes=(*cells["trained"].footnotes, note))
        cells["groups"] = Cell(text=", ".join(f"{name} {size:,}" for name, size in count.trainable.items()))
    if paper is not None:
        cells["paper"] = Cell(paper)
    return Row(display, display, cells)


def _published() -> dict[str, float]:
    from reports.catalogue.entries import paper

    return {name: float(value) for name, value in paper()["parameters"].items()}


def _notes(label: str, skeleton: Skeleton, published: bool) -> tuple[str, ...]:
    one, n = skeleton.one_expert(), len(skeleton.experts)
    rank, targets = skeleton.comparison.rank, ", ".join(skeleton.comparison.targets)
    notes = [
        f"{label} has {skeleton.parameters:,} parameters. Pool: {n} LoRAs of rank {rank} at {targets}, {one:,} "
        f"parameters each ({100 * one / skeleton.parameters:.3f} % of the base), {n * one:,} together.",
        "Trained: by gradient. Stored: kept beside the base without that; a merge that is folded into the weights "
        "takes no memory of its own. % base divides by the base, % all by the base and all that is trained or stored.",
    ]
    if published:
        notes.append(
            "Paper: LoRA-Mixer, appendix A.4, trained parameters in percent. Its 3.88 (mixer-joint) and 8.08 (mixlora) "
            "follow from no counting of these shapes; the 0.04 of mixer is its routers alone."
        )
    return tuple(notes)
