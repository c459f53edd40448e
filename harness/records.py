"""Records of cells: what was asked, what came out, what it cost."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.planning.backlog import costs
from harness.planning.brought import brought
from harness.planning.rendered import rendered
from methods import registry
from results.ground.errors import HarnessError
from results.schema import (
    Cost,
    DataProvenance,
    Item,
    Metric,
    Parameters,
    Record,
    RoutingDiagnostics,
)

if TYPE_CHECKING:
    from harness.facts import Facts
    from harness.planning.plan import Cell
    from results.stages import Stages


def scored_record(facts: Facts, stages: Stages, cell: Cell, outputs: dict[str, Any]) -> tuple[Record, list[Item]]:
    """Score stored raw outputs and describe the cell; no model is needed.

    Args:
        facts: of the cell's plan.
        stages: say what the stages behind the cell cost.
        cell: the cell.
        outputs: what `harness.evaluation.cells.evaluate` returned.

    Raises:
        HarnessError: they answer other prompts.
    """
    bound = cell.task.bound
    docs = bound.eval_docs()
    asked = rendered(bound.requests(doc, cell.seed) for doc in docs)
    if outputs.get("requests", asked) != asked:
        raise HarnessError(
            f"The stored outputs of {cell.spec.method} on {cell.spec.task} answer other prompts than the task has now: "
            "remove them with `harness clean`, and run it again."
        )
    started = time.perf_counter()
    aggregates, items = outcomes(cell, outputs["items"])
    experts, fit = costs(stages, cell)
    seconds = {
        "experts": experts["seconds"],
        "fit": fit["seconds"],
        "evaluate": outputs["seconds"],
        "score": time.perf_counter() - started,
    }
    tokens = {"experts": experts["tokens"], "fit": fit["tokens"], **outputs["tokens"]}
    lost = [phase for phase in ("experts", "fit") if seconds[phase] is None]
    # Stages of earlier versions were stored without it.
    peaks = {"fit": fit.get("peak_memory"), "evaluate": outputs.get("peak_memory")}
    unscored = sum(item.metrics.get(bound.primary) is None for item in items)
    extra = {"evaluation_path": outputs["path"], "trials": fit["trials"], "fit": fit["phases"], **bound.record_extra()}
    described = _record(facts, cell)
    extra |= described.extra
    record = described.model_copy(
        update={
            "metrics": aggregates,
            "n_items": len(items),
            "n_unscored": unscored,
            "parameters": Parameters(**outputs["parameters"]),
            "cost": Cost(
                seconds={phase: spent for phase, spent in seconds.items() if spent is not None},
                tokens={phase: count for phase, count in tokens.items() if count is not None},
                passes=outputs.get("passes", 1),
                peak_memory_bytes=outputs["peak_memory_bytes"],
                peak_memory={phase: peak for phase, peak in peaks.items() if peak is not None},
            ),
            "routing": None if outputs["routing"] is None else RoutingDiagnostics(**outputs["routing"]),
            "training_log": fit["log"],
            "extra": extra,
            "notes": [
                *_notes(cell, outputs),
                *experts["notes"],
                *fit["notes"],
                *_lost(cell, lost),
                *extra.get("judge", {}).get("notes", []),
            ],
        }
    )
    return record, items


def outcomes(cell: Cell, raws: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Metric], list[Item]]:
    """What follows from the raw outputs of a cell's items, in the order of its documents; no model is needed.

    Args:
        cell: the cell.
        raws: of each item `outputs`, and `gold_loglikelihood` in nats or None.
    """
    bound = cell.task.bound
    docs = bound.eval_docs()
    scored = bound.score_all(docs, [raw["outputs"] for raw in raws])
    items = _items(cell, docs, raws, scored)
    return _metrics(bound, scored, items), items


def _items(cell: Cell, docs: Sequence[Any], raws: Sequence[Any], scored: Sequence[Any]) -> list[Item]:
    """What is stored of every evaluated item."""
    bound, items = cell.task.bound, []
    for doc, raw, outcome in zip(docs, raws, scored, strict=True):
        requests = bound.requests(doc, cell.seed)
        metrics = dict(outcome.metrics)
        if raw["gold_loglikelihood"] is not None:
            metrics["bits_per_byte"] = bound.gold_bits_per_byte(doc, raw["gold_loglikelihood"])
        items.append(
            Item(
                id=doc.id,
                prompt=requests[0].context,
                choices=[request.continuation for request in requests] if len(requests) > 1 else None,
                outputs=raw["outputs"],
                gold=outcome.gold,
                prediction=outcome.prediction,
                metrics=metrics,
                group=bound.groups.get(doc.id),
                extra=dict(outcome.extra),
            )
        )
    return items


def _notes(cell: Cell, outputs: dict[str, Any]) -> list[str]:
    """Sentences on how a cell was evaluated."""
    notes = []
    if cell.origin is not None:
        notes.append(f"{cell.spec.method}: experts and routers of {cell.origin.spec.model}, nothing trained here.")
    if cell.method.tuned:
        rates = ", ".join(f"{key} {rate:g}" for key, rate in cell.method.tuned.items())
        notes.append(f"Learning rates chosen by earlier trials: {rates}.")
    if outputs["truncated"]:
        notes.append(f"{outputs['truncated']} prompts were cut on the left to fit the context.")
    if outputs["path_reason"]:
        notes.append(f"Evaluated without shared prefixes: {outputs['path_reason']}.")
    return [*notes, *outputs.get("notes", [])]


def _lost(cell: Cell, phases: Sequence[str]) -> list[str]:
    """A sentence on costs that went with their stages."""
    if not phases:
        return []
    of = {"experts": "its experts", "fit": "its fit"}
    return [f"{cell.spec.method}: what {' and '.join(of[one] for one in phases)} cost is not known here any more."]


def failed_record(facts: Facts, cell: Cell, error: str, status: str) -> Record:
    """The record of a cell without a result: `failed` (it may be tried again) or `refused` (it makes no sense here)."""
    return _record(facts, cell).model_copy(update={"status": status, "error": error})


def _record(facts: Facts, cell: Cell) -> Record:
    bound, card = cell.task.bound, registry.card(cell.spec.method_name)
    foreign = brought(cell.pool)
    return Record(
        cell=cell.key,
        spec=cell.spec,
        status="done",
        label=card.label,
        about=card.note,
        track=cell.method.track,  # type: ignore[arg-type]
        uses_task_identity=cell.method.method.uses_task_identity,
        arguments=list(facts.arguments),
        data=DataProvenance(
            source=bound.source,
            origin=bound.origin,
            fingerprint=bound.fingerprint,
            part_sizes={part: len(rows) for part, rows in bound.parts.items()},
            split_rows=dict(bound.split_rows),
            official_rows=dict(bound.official_rows),
            deviations=list(bound.deviations),
        ),
        model=facts.model,
        budget=facts.budget(cell),
        environment=facts.environment,
        primary=bound.primary,
        chance=bound.chance(),
        majority=bound.majority(),
        n_items=0,
        parameters=Parameters(trainable={}, stored={}),
        cost=Cost(seconds={}),
        extra=({"brought": foreign} if foreign else {}) | ({"settled": True} if cell.settled else {}),
    )


def _metrics(bound: Any, scored: list[Any], items: list[Item]) -> dict[str, Metric]:
    info = {metric.name: metric for metric in bound.metrics}
    metrics = {
        name: Metric(value=value, n=n, higher_is_better=info[name].higher_is_better, unit=info[name].unit)
        for name, (value, n) in bound.aggregate(scored).items()
    }
    bits = [value for item in items if (value := item.metrics.get("bits_per_byte")) is not None]
    if bits:
        metrics["bits_per_byte"] = Metric(
            value=sum(bits) / len(bits), n=len(bits), higher_is_better=False, unit="bits/byte"
        )
    return metrics
