"""The entries of the catalogue, read once from the package's data."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import yaml

from reports.catalogue.model import Availability, Context, Entry, moves
from results.ground.names import UnknownName, unknown


class UnknownEntryError(UnknownName):
    """No table, figure or ablation has that name. The message offers the nearest."""


@cache
def paper() -> dict[str, Any]:
    """The published values, as they stand in `reports/paper/tables.yaml`."""
    return dict(_yaml("reports.paper", "tables.yaml"))


@cache
def counted() -> dict[str, Any]:
    """Parameters and shapes of the published architectures, counted by the methods' own code."""
    return dict(_yaml("reports.paper", "counted.yaml"))


@cache
def claim_rules() -> dict[str, str]:
    """How each claim is judged that is no gain on scores, by its name."""
    return {name: " ".join(one["rule"].split()) for name, one in _yaml("reports.paper", "claims.yaml").items()}


@cache
def entries() -> tuple[Entry, ...]:
    """Tables 1 to 22, Figures 3 to 6 and the parameter counts of the appendix (`a4`)."""
    data = _yaml("reports.catalogue", "entries.yaml")
    published = {**paper()["tables"], **paper()["figures"]}
    published["a4"] = {
        "title": "Trainable parameters, per cent of the base model",
        "rows": paper()["parameters"],
    }
    return tuple(_entry(name, fields, published[name], data) for name, fields in data["entries"].items())


@cache
def ablations() -> tuple[Entry, ...]:
    """What `harness ablate` runs and plots."""
    data = _yaml("reports.catalogue", "entries.yaml")
    found = []
    for name, fields in data["ablations"].items():
        if "entry" in fields:
            found.append(entry(fields["entry"]).model_copy(update={"name": name}))
        else:
            published = {"ranks": _ranks(), **paper()["tables"]}.get(fields.get("published"), {})
            own = {key: value for key, value in fields.items() if key != "published"}
            found.append(_entry(name, own, published, data))
    return tuple(found)


def _ranks() -> dict[str, Any]:
    """Published means over the seven tasks by rank, from Tables 18, 19, 2 and 20."""
    tables = {16: "t18", 32: "t19", 64: "t2", 128: "t20"}
    blocks = {rank: paper()["tables"][name]["blocks"]["llama3-8b"] for rank, name in tables.items()}
    rows = {
        method: [round(sum(block[method]) / len(block[method]), 2) for block in blocks.values()]
        for method in ("lora", "mixer")
    }
    return {"columns": list(tables), "blocks": {"llama3-8b": rows}}


def entry(name: str) -> Entry:
    """One entry or ablation by name.

    Raises:
        UnknownEntryError: there is none.
    """
    known = {one.name: one for one in entries()}
    if name in known:
        return known[name]
    known |= {one.name: one for one in ablations()}
    if name in known:
        return known[name]
    others = ("comparison", "matrix", "routing", "reproduction", "pareto", "load", "load-by-task", "entropy", "balance")
    raise unknown("table", name, [*others, *known], UnknownEntryError)


def availability(one: Entry, context: Context) -> Availability:
    """Whether an entry's cells can be computed with what is at hand."""
    if one.counted:
        return Availability("computed", "Counted from the published architectures: it needs no run.")
    if not one.methods:
        return Availability("not", "It states facts of other models; its published values are shown.")
    missing = {
        method: f"{method.split('[')[0]} is not a method of this installation."
        for method in one.methods
        if method.split("[")[0] not in context.methods
    }
    if not context.transfer_from and context.model != one.model:
        missing |= {
            method: "It takes experts of another base model of equal shapes: name one with --transfer-from."
            for method in one.methods
            if moves(method)
        }
    absent = [task for task in one.tasks if task.split("@")[0] not in context.tasks]
    source = context.source[:1].upper() + context.source[1:]
    missing |= {task: f"{source} has no {task.split('@')[0]}." for task in absent}
    methods = [method for method in one.methods if method not in missing]
    tasks = [task for task in one.tasks if task not in missing]
    why = [text for name, text in missing.items() if name not in absent]
    if absent:
        without = ", ".join(dict.fromkeys(task.split("@")[0] for task in absent))
        why.append(" ".join(filter(None, (f"{source} has no {without}.", one.hint))))
    if not methods or not tasks:
        return Availability("not", " ".join(why), missing)
    if one.model and one.model != context.model:
        why.append(f"In shape only: published for {one.model}.")
    if missing:
        cells = f"{len(methods)} of {len(one.methods)} methods on {len(tasks)} of {len(one.tasks)} tasks"
        why.insert(0, f"{cells}.")
    return Availability("partly", " ".join(why), missing) if why else Availability("runnable")


def listing(context: Context | None = None) -> list[tuple[str, ...]]:
    """Rows of `harness list tables`: name, availability, title, and what stands in the way.

    Args:
        context: what is at hand; without it availability is left open.
    """
    rows: list[tuple[str, ...]] = []
    for one in entries():
        found = availability(one, context) if context else None
        state = found.state if found else ""
        rows.append((one.name, state, one.title, found.reason if found else ""))
    return rows


def _entry(name: str, fields: dict[str, Any], published: dict[str, Any], data: dict[str, Any]) -> Entry:
    sentences = tuple(" ".join(data["notes"][key].split()) for key in fields.get("notes", ()))
    title = fields.get("title") or published["title"]
    settings = {**data["protocol"], **fields.get("settings", {})} if fields.get("methods") else {}
    return Entry.model_validate(
        {**fields, "name": name, "title": title, "settings": settings, "paper": published, "notes": sentences}
    )


def _yaml(package: str, name: str) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load((resources.files(package) / name).read_text(encoding="utf-8"), Loader=loader)
