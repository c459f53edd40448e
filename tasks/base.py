"""The contract between a task and the engine.

A task is built on an lm-evaluation-harness task: its prompts, parsing, metrics and version. `Task.bind` joins it with
a source's rows and splits them into disjoint parts; the bound task renders training examples and evaluation requests
from the same templates and scores raw model outputs. Scoring needs no model.

Life of a task::

    task = registry.create("gsm8k")
    task.check(source)                              # TaskUnavailable, before anything is read
    bound = task.bind(source, settings)             # reads rows, makes the parts
    example = bound.example(doc)                    # training: loss on example.target
    calls = bound.requests(doc, seed)               # evaluation: what the model is asked
    item = bound.score(doc, outputs)                # pure
    bound.aggregate(items)

A new task of lm-evaluation-harness is a card and, where its columns or choices need it, a few lines on top of
`tasks.lm_eval_task.LmEvalTask`. A generative task with a verdict of its own (a sandbox, a judge) overrides `config`
there and `score_texts` of its bound class; see that module.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from results.ground.errors import HarnessError
from tasks.sources.base import Source

if TYPE_CHECKING:
    from tasks.judge import Judge

Part = Literal["expert-train", "router-train", "dev", "eval"]
PARTS: tuple[Part, ...] = ("expert-train", "router-train", "dev", "eval")


class TaskUnavailable(HarnessError, ValueError):
    """A source does not have this task. The message names the sources that do."""


class TaskSettings(BaseModel):
    """What a comparison may choose about every task. Part of the cell's hash, all of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shots: int | None = None
    """Few-shot examples; None takes the task's default (`gsm8k@5-shot` on the command line sets it)."""
    fewshot: Literal["fixed", "per_item"] = "fixed"
    """`fixed`: the same seeded examples for every item; `per_item`: a function of seed and item id."""
    prompt: Literal["cloze", "letters", "flan"] = "cloze"
    """`cloze`: choices' texts are scored (lm-eval's default); `letters`: options are listed, letters are scored;
    `flan`: the prompts and answers that Flan-T5 was trained on (`tasks.flan`), where a task has them."""
    chat_template: bool = False
    """Prompts are conversations, few-shot examples earlier turns of them; needs `BoundTask.chat`."""
    limit: int | None = None
    """Items of the eval part, drawn by a hash of their ids (the same items for every method); None for all."""
    max_new_tokens: int = 256
    samples: int = Field(default=1, ge=1)
    """Answers per item of tasks that are scored by pass@k."""
    temperature: float = Field(default=0.0, ge=0)
    """Of these answers; 0 is greedy, and then they are all the same."""
    answers: Literal["generated", "reference"] = "generated"
    """`reference`: nothing is generated, generative tasks are measured by their reference answers' bits per byte."""

    @model_serializer(mode="wrap")
    def _said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `answers` where nothing is changed by it: hashes are older than the key."""
        values: dict[str, Any] = handler(self)
        return {key: value for key, value in values.items() if (key, value) != ("answers", "generated")}


class ChatTemplate(Protocol):
    """Renders a conversation to text, as lm-eval's `LM.apply_chat_template` does.

    Args:
        messages: dictionaries with `role` and `content`.
        add_generation_prompt: open the assistant's turn at the end. When False, the last message is the assistant's and
            stays open (`continue_final_message` of transformers' tokenizers).
    """

    def __call__(self, messages: list[dict[str, str]], /, *, add_generation_prompt: bool) -> str: ...


@dataclass(frozen=True, eq=False)
class Doc:
    """One row: the id in its source and the columns of the hub's data set."""

    id: str
    row: Mapping[str, Any]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Doc) and (self.id, self.row) == (other.id, other.row)


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
    """A task joined with a source's rows and the comparison's settings.

    `settings.shots` is resolved: never None. `chat` renders conversations when `settings.chat_template` is set; it may
    be given to `Task.bind` or set later, before the first example or request.
    """

    name: str
    version: str
    settings: TaskSettings
    chat: ChatTemplate | None = None
    parts: Mapping[Part, Sequence[Doc]]
    primary: str
    metrics: Sequence[MetricInfo]
    generative: bool
    source: str
    origin: str
    fingerprint: str
    deviations: Sequence[str]
    split_rows: Mapping[str, int] = {}
    """Rows found in each official split that was read."""
    official_rows: Mapping[str, int] = {}
    """Published rows of every official split."""
    groups: Mapping[str, str] = {}
    """By id, the group of every evaluated row that shares a passage, a sentence or a question with another one."""
    needs_judge: bool = False
    """Whether `score_all` asks a language model; `judge` has to be set before."""
    judge: Judge | None = None
    runs_code: bool = False
    """Whether scoring runs generated code, in a sandbox of level `min_isolation` or stronger."""
    min_isolation: str = "bubblewrap"

    @abstractmethod
    def with_settings(self, settings: TaskSettings) -> BoundTask:
        """The same rows under other settings, without reading them again."""

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

    def gold_bits_per_byte(self, doc: Doc, loglikelihood: float) -> float:
        """Bits per UTF-8 byte of the gold answer, given the log-likelihood in nats of `gold_request`'s continuation.

        It goes into the item's metrics as `bits_per_byte`.

        Raises:
            ValueError: the task has no gold request.
        """
        request = self.gold_request(doc, 0)
        if request is None:
            raise ValueError(f"{self.name} has no gold answer to measure in bits per byte.")
        return -loglikelihood / math.log(2) / len(request.continuation.encode())

    @abstractmethod
    def score(self, doc: Doc, outputs: Sequence[Any]) -> ScoredItem:
        """Score raw outputs: `(loglikelihood, is_greedy)` per choice, or generated texts. Pure; no model."""

    def score_all(self, docs: Sequence[Doc], outputs: Sequence[Sequence[Any]]) -> list[ScoredItem]:
        """Score many items at once, in order; tasks whose verdicts are made in parallel override it."""
        return [self.score(doc, out) for doc, out in zip(docs, outputs, strict=True)]

    def scoring(self) -> dict[str, Any]:
        """What decides scores beside rows, settings and version (a judge's identity), as JSON for a cell's hash."""
        return {}

    def record_extra(self) -> dict[str, Any]:
        """Facts of this family for the record, after scoring: isolation level, judge model, ..."""
        return {}

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
    only_evaluated: ClassVar[bool] = False
    """Whether none of its rows ever trains anything, so that its expert learns from other tasks alone."""

    @abstractmethod
    def sources(self) -> Sequence[str]:
        """Kinds of source that have it, in words for the user."""

    @abstractmethod
    def check(self, source: Source) -> None:
        """Cheaply make sure that a source has it, before anything is read.

        Raises:
            TaskUnavailable: the source lacks it; the message names the sources that have it.
        """

    @abstractmethod
    def bind(self, source: Source, settings: TaskSettings, chat: ChatTemplate | None = None) -> BoundTask:
        """Load rows and split them into parts.

        Args:
            source: where the rows come from.
            settings: what the comparison chose.
            chat: renders conversations; needed when `settings.chat_template` is set.

        Raises:
            TaskUnavailable: the source lacks it; the message names the sources that have it.
            tasks.sources.SourceError: rows that should be there cannot be read.
        """

    def bind_for_training(self, source: Source, settings: TaskSettings, chat: ChatTemplate | None = None) -> BoundTask:
        """`bind` for whoever needs the training parts alone: damaged rows that are only evaluated may be left out.

        Raises:
            tasks.sources.SourceError: rows that train cannot be used.
        """
        return self.bind(source, settings, chat)
