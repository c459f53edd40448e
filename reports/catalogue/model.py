"""What the catalogue's data hold, typed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from results.schema import Track

Layout = Literal[
    "grid", "series", "alpha-lambda", "sizes", "latency", "training-time", "memory", "parameters", "facts", "load",
    "load-by-task", "top-k", "balance", "specialisation",
]  # fmt: skip
FIGURES: tuple[Layout, ...] = ("load", "load-by-task", "top-k", "balance", "specialisation")

JOINT = ("mixlora", "mixer-joint", "hydralora", "loramoe", "multitask-lora")
"""Methods that train experts; everything else keeps them frozen."""


_ORIGIN = re.compile(r"""transfer\.from=("(?:[^"\\]|\\.)*"|[^,\]]*)""")


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Axis(_Data):
    """A setting that a table or plot varies.

    `key` is the run's key; `where` is the place in a record's specification that shows its value, where there is one.
    `cap` is the key of a limit in tokens that may not bind below a value that counts examples.
    """

    name: str
    key: str
    label: str
    paper: tuple[int, ...]
    scaled: tuple[int, ...]
    where: str = ""
    cap: str = ""


class Entry(_Data):
    """One table, figure or ablation.

    Attributes:
        name: `t2`, `f4`, `a4`, or an ablation's name.
        title: in words of our own.
        methods, tasks: display names of the cells it needs; `scaled_methods` are those that fit a small pool.
        settings: keys of the run at the paper's scale; `scaled` replaces them under a small preset.
        model: the base model it is about, where another would be another experiment.
        paper: the published values as they stand in `reports/paper/tables.yaml`.
        variants: whether its methods are settings of one, to be plotted side by side.
        counted: whether it follows from the published architectures alone and needs no run.
        hint: how to come by what is usually missing.
        notes: what the paper leaves open, in sentences.
    """

    name: str
    title: str
    layout: Layout
    methods: tuple[str, ...] = ()
    scaled_methods: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    scaled: dict[str, Any] = {}
    axis: Axis | None = None
    model: str | None = None
    paper: dict[str, Any] = {}
    variants: bool = False
    counted: bool = False
    hint: str = ""
    notes: tuple[str, ...] = ()

    @property
    def is_figure(self) -> bool:
        """Whether it renders as a picture."""
        return self.layout in FIGURES

    def tracks(self) -> dict[str, Track]:
        """Track of each of its methods."""
        return {method: track_of(method) for method in self.methods}

    def taken_from(self, model: str) -> Entry:
        """The entry with another base model in the place of the one that its methods take experts and fits from."""
        value = f"transfer.from={json.dumps(model, ensure_ascii=False)}"
        return self.model_copy(update={"methods": tuple(_ORIGIN.sub(lambda _: value, m) for m in self.methods)})

    def as_run(self, methods: Iterable[str]) -> Entry:
        """The entry with its methods as they stand in records that took experts and fits from whatever base models."""
        found: dict[str, dict[str, None]] = {}
        for method in methods:
            if moves(method):
                found.setdefault(_ORIGIN.sub("", method), {})[method] = None
        named = (found.get(_ORIGIN.sub("", method), [method]) if moves(method) else [method] for method in self.methods)
        return self.model_copy(update={"methods": tuple(one for own in named for one in own)})

    def needs(self, *, scaled: bool) -> list[Need]:
        """The cells it needs, one `Need` per configuration of the run.

        Args:
            scaled: for a preset far below the paper's budget, rather than at the paper's settings.
        """
        settings = self.scaled if scaled else self.settings
        methods = (self.scaled_methods if scaled else ()) or self.methods
        if not methods:
            return []
        if self.axis is None:
            return [Need(self.name, methods, self.tasks, settings)]
        values = self.axis.scaled if scaled else self.axis.paper
        return [Need(self.label(value), methods, self.tasks, {**settings, self.axis.key: value}) for value in values]

    def label(self, value: int) -> str:
        """Label that planned cells carry for one value of the axis."""
        return f"{self.name}:{self.axis.name if self.axis else ''}={value}"


@dataclass(frozen=True)
class Need:
    """Cells that share one configuration of the run: every method on every task, for the preset's seeds.

    Attributes:
        variant: label for the planned cells (`PlannedCell.variant`).
        settings: dotted keys of the run to their values.
    """

    variant: str
    methods: tuple[str, ...]
    tasks: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What is at hand: names that exist, the data source, the model.

    Attributes:
        methods: registered method names.
        tasks: tasks that the data source has.
        model: name of the base model.
        source: the data source in words.
        transfer_from: base model whose experts and fits are to be moved, if one was named.
    """

    methods: frozenset[str]
    tasks: frozenset[str]
    model: str = ""
    transfer_from: str = ""
    source: str = "this source"


@dataclass(frozen=True)
class Availability:
    """Whether an entry can be measured, and what stands in the way.

    Attributes:
        missing: method or task to the reason why its cells are out of reach.
    """

    state: Literal["runnable", "partly", "computed", "not"]
    reason: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)


def moves(method: str) -> bool:
    """Whether a method, by its display name, takes experts and fit from another base model."""
    return _ORIGIN.search(method) is not None


def track_of(method: str) -> Track:
    """Track by a method's name."""
    name = method.split("[")[0]
    if name in ("base", "lora"):
        return "reference"
    return "joint" if name in JOINT else "compose"
