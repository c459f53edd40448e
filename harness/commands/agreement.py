"""`harness agreement`: a base model's scores beside lm-evaluation-harness's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

import typer

from harness.versions import EVALUATION_VERSION
from results.ground.errors import HarnessError
from results.ground.names import unknown
from results.ground.plugins import PluginError, say_once

if TYPE_CHECKING:
    from harness.bench.agreement import Agreement
    from tasks.lm_eval_task import LmEvalBound

STAGE = "agreement"
VERSION = 1
"""Raised when the comparison changes."""


def agreement_command(
    tasks: list[str] | None, model: str, data: str, items: int, peer_batch: int, as_json: bool
) -> None:
    """Compare every task and print the table; exit code 1 when one differs. A task that was compared is not repeated.

    Raises:
        HarnessError: no such task, one without choices, or one that the source lacks.
    """
    from harness.models import quiet_libraries
    from harness.planning.stores import stage_store

    if items < 1 or peer_batch < 1:
        raise HarnessError(f"--{'items' if items < 1 else 'peer-batch'} takes a whole number above 0.")
    quiet_libraries()
    bound = bind(tasks, data, items)
    stages, loaded, rows = stage_store(), None, []
    for own in bound:
        key = _key(own, model, peer_batch)
        if stages.find(STAGE, key) is None:
            from harness.bench.agreement import compare
            from harness.bench.measure import machine
            from harness.models import load

            loaded = loaded or load(model)
            typer.echo(f"{own.name}: {len(own.eval_docs())} items from {own.source} ({own.origin})", err=True)
            found = compare(loaded, own, peer_batch)
            with stages.create(STAGE, key, {"agreement": found.model_dump(mode="json"), "machine": machine("cpu")}):
                pass
        rows.append(_stored(stages.meta(STAGE, key)))
    typer.echo(json.dumps([row.model_dump() for row in rows], indent=2) if as_json else table(rows))
    if not all(row.equal for row in rows):
        raise typer.Exit(1)


def bind(names: list[str] | None, data: str, items: int) -> list[LmEvalBound]:
    """The tasks asked for, or every one with choices that the source has.

    Raises:
        HarnessError: no such task, one without choices, or one that the source lacks.
    """
    from harness.planning.sources import open_source
    from tasks import registry
    from tasks.base import TaskSettings, TaskUnavailable
    from tasks.lm_eval_task import LmEvalTask

    likelihood = [name for name in registry.names() if not registry.card(name).generative]
    source = open_source(data)
    bound = []
    for name in likelihood if names is None else names:
        if name not in registry.names():
            raise unknown("task", name, likelihood)
        try:
            task = registry.create(name)
        except PluginError as error:
            if names is not None:
                raise
            say_once(f"{str(error).rstrip('.')}, so the task {name} is left out.")
            continue
        if name not in likelihood or not isinstance(task, LmEvalTask) or task.card.lm_eval is None:
            raise HarnessError(f"{name} has no choices that lm-eval scores: take some of {', '.join(likelihood)}.")
        try:
            bound.append(task.bind(source, TaskSettings(shots=0, limit=items)))
        except TaskUnavailable:
            if names is not None:
                raise
    return bound


def table(rows: Sequence[Agreement]) -> str:
    """The rows as a Markdown table."""
    head = ["task", "items", "lm-eval's file", "metric", "ours", "lm-eval", "largest difference (nats)", "relative"]
    head += ["other prompts", "greedy flags differ", "answers differ", "seconds (ours / lm-eval)"]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
    for row in rows:
        names, ours, theirs = zip(*((name, *values) for name, values in row.metrics.items()), strict=True)
        cells = [row.task, str(row.items), row.file, "<br>".join(names)]
        cells += ["<br>".join(f"{value:.4f}" for value in values) for values in (ours, theirs)]
        cells += [f"{row.largest_difference:.1e}", f"{row.largest_share:.1e}"]
        cells += [f"{row.other_texts} of {row.requests}", f"{row.greedy_differ} of {row.requests}"]
        cells += [f"{row.answers_differ} of {row.items}", " / ".join(f"{value:.0f}" for value in row.seconds)]
        lines.append("| " + " | ".join(cells) + " |")
    differing = [row.task for row in rows if not row.equal]
    verdict = f"Not equal: {', '.join(differing)}." if differing else f"Equal on {len(rows)} of {len(rows)} tasks."
    if any(name.endswith("*") for row in rows for name in row.metrics):
        verdict += " *: not in lm-eval's file, computed from its log-likelihoods."
    return "\n".join([*lines, "", verdict])


def _key(own: LmEvalBound, model: str, peer_batch: int) -> str:
    from harness.models import model_revision
    from results.ground.digest import digest

    packages = {name: metadata.version(name) for name in ("lm-eval", "torch", "transformers")}
    settings = own.settings.model_dump(mode="json")
    versions = [VERSION, EVALUATION_VERSION, own.version, packages]
    return digest([own.name, own.fingerprint, settings, model_revision(model), peer_batch, versions])


def _stored(meta: dict[str, Any]) -> Agreement:
    from harness.bench.agreement import Agreement

    return Agreement.model_validate(meta["agreement"])
