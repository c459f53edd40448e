"""The contract between a task and the engine.

A task is built on an lm-evaluation-harness task: its prompts, parsing, metrics and version. `Task.bind` joins it with
a source's rows and splits them into disjoint parts; the bound task renders training examples and evaluation requests
from the same templates and scores raw model outputs. Scoring needs no model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Part = Literal["expert-train", "router-train", "dev", "eval"]
PARTS: tuple[Part, ...] = ("expert-train", "router-train", "dev", "eval")


class TaskUnavailable(ValueError):
    """A source does not have this task. The message names the sources that do."""


class TaskSettings(BaseModel):
    """What a comparison may choose about every task. Part of the cell's hash, all of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shots: int | None = None
    """Few-shot examples; None takes the task's default (`gsm8k@5-shot` on the command line sets it)."""
    fewshot: Literal["fixed", "per_item"] = "fixed"
    """`fixed`: the same seeded examples for every item; `per_item`: a function of seed and item id."""
    prompt: Literal["cloze", "letters"] = "cloze"
    """`cloze`: choices' texts are scored (lm-eval's default); `letters`: options are listed, letters are scored."""
    chat_template: bool = False
    limit: int | None = None
    """Items of the eval part, drawn by a hash of their ids (the same items for every method); None for all."""
    max_new_tokens: int = 256


@dataclass(frozen=True)
class Doc:
    """One row: the id in its source and the columns of the hub's data set."""

    id: str
    row: Mapping[str, Any]


@dataclass(frozen=True)
class Example:
    """Training view: loss is on `target` (which carries its leading delimiter) only."""

    id: str
    task: str
    prompt: str
    target: str


@dataclass(frozen=True)
class Request:
    """One model call of an item.

    `kind` `loglikelihood`: the model scores `continuation` after `prefix + context`; `generate`: it continues
    `prefix + context` greedily until a stop string. `prefix` is the few-shot part, shared by items where possible.
    The text that the model sees is exactly `prefix + context` (+ continuation), as lm-eval would build it.
    """

    kind: Literal["loglikelihood", "generate"]
    prefix: str
    context: str
    continuation: str = ""
    until: tuple[str, ...] = ()
    max_new_tokens: int = 0
    temperature: float = 0.0
    samples: int = 1


@dataclass(frozen=True)
class ScoredItem:
    """Outcome of one item. `metrics` values are 0..1 unless the metric says otherwise; None is unscored."""

    prediction: str
    gold: str
    metrics: Mapping[str, float | None]
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MetricInfo:
    """How a metric aggregates over items: `mean` of per-item values, or a named function of (gold, prediction)."""

    name: str
    higher_is_better: bool = True
    unit: str = "fraction"
    aggregation: str = "mean"


class BoundTask(ABC):
    """A task joined with a source's rows and the comparison's settings."""

    name: str
    version: str
    settings: TaskSettings
    parts: Mapping[Part, Sequence[Doc]]
    primary: str
    metrics: Sequence[MetricInfo]
    generative: bool
    source: str
    origin: str
    fingerprint: str
    deviations: Sequence[str]

    @abstractmethod
    def eval_docs(self) -> Sequence[Doc]:
        """The eval part after `limit`, in a fixed order."""

    @abstractmethod
    def example(self, doc: Doc) -> Example:
        """Training view of one row, from the evaluation's own template, without few-shot examples."""

    @abstractmethod
    def requests(self, doc: Doc, seed: int) -> list[Request]:
        """Model calls of one item. For choices: one per choice, in order."""

    @abstractmethod
    def gold_request(self, doc: Doc, seed: int) -> Request | None:
        """Generative tasks: the log-likelihood request for the gold answer (bits per byte); None otherwise."""

    @abstractmethod
    def score(self, doc: Doc, outputs: Sequence[Any]) -> ScoredItem:
        """Score raw outputs: `(loglikelihood, is_greedy)` per choice, or generated texts. Pure; no model."""

    @abstractmethod
    def aggregate(self, items: Sequence[ScoredItem]) -> dict[str, tuple[float, int]]:
        """Value and number of scored items of every metric."""

    @abstractmethod
    def chance(self) -> float:
        """Expected primary metric of a uniform guess over the eval items; 0 for open generation."""

    @abstractmethod
    def majority(self) -> float | None:
        """Primary metric of always answering the eval part's most frequent gold; None for open generation."""


class Task(ABC):
    """A benchmark before it is bound to data."""

    name: str
    version: str
    expert: str
    """The expert that serves it (the expert map's default): arc-e and arc-c share `arc`, humaneval takes `mbpp`."""

    @abstractmethod
    def sources(self) -> Sequence[str]:
        """Kinds of source that have it, in words for the user."""

    @abstractmethod
    def bind(self, source: Any, settings: TaskSettings, seed: int) -> BoundTask:
        """Load rows (`source` is a `tasks.sources.Source`) and split them into parts.

        Raises:
            TaskUnavailable: the source lacks it; the message names the sources that have it.
        """
