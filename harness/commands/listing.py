"""`harness list` and shell completion: the names of everything that has a list, without importing torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from results.controls import CONTROLS
from results.ground.names import unknown

if TYPE_CHECKING:
    from tasks.card import TaskCard

Row = tuple[str, ...]


def list_command(what: str, as_json: bool = False) -> None:
    """Print one line for each name, the first column the name alone; or a JSON list of objects, one for each.

    Raises:
        HarnessError: `what` is not a kind of thing.
    """
    if what not in KINDS:
        raise unknown("thing to list", what, KINDS)
    columns, listing = _LISTINGS[what]
    rows = listing()
    if as_json:
        import json

        typer.echo(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=2, ensure_ascii=False))
        return
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(len(columns))]
    for row in rows:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def names(kind: str) -> list[str]:
    """The names of a kind of thing: of those that `harness list` knows, or of `COMPLETED`.

    Raises:
        KeyError: there is no such kind, a mistake of the program.
    """
    if kind in _LISTINGS:
        return [row[0] for row in _LISTINGS[kind][1]()]
    return list(COMPLETED[kind]())


def completions(kind: str, incomplete: str) -> list[str]:
    """Names for shell completion; the last of a comma-separated list is completed."""
    done, comma, last = incomplete.rpartition(",")
    return [f"{done}{comma}{name}" for name in names(kind) if name.startswith(last)]


def unavailable(card: TaskCard) -> str:
    """Why a task of a made question set cannot be run yet; empty for every other task."""
    from harness.planning.sources import made_sets_folder

    if card.family != "cross-domain" or (made_sets_folder() / card.set / card.config / "test.jsonl").is_file():
        return ""
    return (
        f"Unavailable: no set was made here. `harness make-crossdomain {card.name}` has one written by a language "
        "model, which needs a key or a server (docs/judge.md); a set in a data directory is found with --data DIR."
    )


def _methods() -> list[Row]:
    from methods import registry

    cards = map(registry.card, registry.names())
    return [(card.name, card.track, card.summary) for card in cards]


def _tasks() -> list[Row]:
    from tasks import registry

    cards = map(registry.card, registry.names())
    return [
        (card.name, card.family, ",".join(card.sources), f"{card.summary} {unavailable(card)}".rstrip())
        for card in cards
    ]


def _models() -> list[Row]:
    from harness.wheels.catalogue import BUNDLED
    from harness.wheels.keeping import state

    rows: list[Row] = []
    for name, model in BUNDLED.items():
        found = state(name)
        source = "on demand" if model.on_demand else "bundled"
        sizes = (f"{model.parameters / 1e6:,.0f} M", f"{model.source.bytes / 1e6:,.0f} MB")
        rows.append((name, source, model.licence, *sizes, found.word, f"{model.label}: {model.good_for}", found.reason))
    return rows


def _architectures() -> list[Row]:
    from methods.architectures import architectures

    return [
        (name, one.repository, f"{one.label}, {one.parameters:,} parameters") for name, one in architectures().items()
    ]


def _presets() -> list[Row]:
    from harness.planning.config import load_preset, preset_names

    return [(name, str(load_preset(name).get("summary", ""))) for name in preset_names()]


def _tables() -> list[Row]:
    from harness.planning.experiments import context
    from reports.catalogue import listing

    return listing(context("bundled", "smollm2-135m"))


def _ablations() -> list[Row]:
    from reports.catalogue import ablations

    return [(one.name, one.title) for one in ablations()]


def _terms() -> list[str]:
    from harness.wheels.catalogue import terms

    return list(terms())


def _trackers() -> list[Row]:
    from harness.tracking.tracker import TRACKERS

    return [(name, description) for name, (_, _, description) in TRACKERS.items()]


_LISTINGS: dict[str, tuple[Sequence[str], Callable[[], list[Row]]]] = {
    "methods": (("name", "track", "summary"), _methods),
    "tasks": (("name", "family", "sources", "summary"), _tasks),
    "models": (
        ("name", "source", "licence", "parameters", "download", "state", "summary", "reason"),
        _models,
    ),
    "architectures": (("name", "repository", "summary"), _architectures),
    "presets": (("name", "summary"), _presets),
    "tables": (("name", "state", "title", "reason"), _tables),
    "ablations": (("name", "title"), _ablations),
    "trackers": (("name", "summary"), _trackers),
}
KINDS = tuple(_LISTINGS)


def _experts() -> list[str]:
    from tasks import registry

    return sorted({registry.card(name).expert for name in registry.names()})


def _devices() -> list[str]:
    """Without torch: the kernel's list of NVIDIA devices."""
    cards = sorted(Path("/dev").glob("nvidia[0-9]*"))
    return ["auto", "cpu", *(f"cuda:{index}" for index in range(len(cards)))]


def _isolation() -> Sequence[str]:
    from tasks.sandbox.levels import NAMES

    return NAMES


def _executors() -> list[str]:
    from harness.executors import EXECUTORS, SLURM

    return [*EXECUTORS, SLURM]


def _entries() -> list[str]:
    from reports.catalogue import entries

    return [one.name for one in entries()]


def _formats() -> list[str]:
    from reports.api import HTML
    from reports.render import FORMATS

    return [*FORMATS, HTML]


def _report_formats() -> list[str]:
    from reports import lm_eval

    return [*_formats(), lm_eval.NAME]


def _metrics() -> list[str]:
    from reports.outcomes import DERIVED, SETS
    from tasks import registry

    return list(
        dict.fromkeys([*(m for name in registry.names() for m in registry.card(name).metrics), *DERIVED, *SETS])
    )


def _notes() -> Sequence[str]:
    from typing import get_args

    from reports.render.options import Notes

    return get_args(Notes)


def _count_formats() -> list[str]:
    from reports.render import FORMATS

    return list(FORMATS)


def _forms() -> Sequence[str]:
    from typing import get_args

    from harness.export import Form

    return get_args(Form)


def _benchmarks() -> list[str]:
    from harness.bench import BENCHMARKS

    return list(BENCHMARKS)


def _runs() -> list[str]:
    return sorted(str(file.parent) for file in Path("results/runs").glob("*/run.yaml"))


COMPLETED: dict[str, Callable[[], Sequence[str]]] = {
    "kinds": lambda: KINDS,
    "shown": lambda: [name for kind in KINDS for name in names(kind)],
    "opponents": lambda: ["all", *names("methods")],
    "metrics": _metrics,
    "counted": lambda: [*names("models"), *names("architectures")],
    "experts": _experts,
    "devices": _devices,
    "isolation": _isolation,
    "executors": _executors,
    "reproducible": lambda: [*_entries(), "all"],
    "reported": lambda: ["comparison", "matrix", "routing", "reproduction", *_entries(), *names("ablations")],
    "formats": _formats,
    "report-formats": _report_formats,
    "notes": _notes,
    "count-formats": _count_formats,
    "forms": _forms,
    "benchmarks": _benchmarks,
    "controls": lambda: list(CONTROLS),
    "checked": lambda: [*names("methods"), *names("tasks")],
    "plug-ins": lambda: ["method", "task"],
    "made-sets": lambda: ["math-medical", "math-coding"],
    "sources": lambda: ["bundled", "hub"],
    "terms": _terms,
    "clocks": lambda: ["wall", "cpu"],
    "dtypes": lambda: ["float32", "bfloat16", "float16"],
    "runs": _runs,
}
"""Names that complete an argument in a shell beside those of `KINDS`."""
