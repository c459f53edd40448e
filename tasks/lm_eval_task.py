"""Tasks on top of lm-evaluation-harness: one template gives the training view and the evaluation requests.

`LmEvalTask` needs only a card. What a task may override, from the mildest:

- `canonical(row)`: sources that name columns differently; `view(row)`: the columns that lm-eval's file wants;
- `options(view)`: question and options, so that `prompt=letters` can list them;
- `config(settings)`: lm-eval's task file as a dictionary, to change or to write from scratch;
- `bound_class`: a subclass of `LmEvalBound`, for a verdict of one's own.

A generative task plugs in so: its `config` has `output_type: generate_until`, `doc_to_text`, `doc_to_target` (the full
gold answer, on which training and bits per byte rest) and `generation_kwargs: {until: [...]}`; its bound class
overrides `score_texts(doc, texts)`, which may run a sandbox or ask a judge and gives None for a metric without a
verdict. A task file whose helpers run code when imported is read with `task_file(name, resolve_functions=False)`; set
its `metric_list` to `[]` and drop its `filter_list` then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from results.ground.digest import unit_interval
from tasks.base import (
    BoundTask,
    ChatTemplate,
    Doc,
    Example,
    MetricInfo,
    Request,
    ScoredItem,
    TaskSettings,
    TaskUnavailable,
)
from tasks.fewshot import FewShot
from tasks.flan import FLAN
from tasks.metrics import metric, unscored_as_zero
from tasks.row_task import LoadedRows, RowTask, chosen
from tasks.sources.base import Row, Source, View
from tasks.sources.mixed import source_of

if TYPE_CHECKING:
    from tasks.lm_eval_adapter import Prompter

LETTERS = "ABCDEFGHIJ"


class LmEvalBound(BoundTask):
    """A task of lm-eval joined with rows."""

    may_be_unscored: ClassVar[bool] = False
    """Whether an item may end without a verdict; the primary metric then has a second mean (`unscored_as_zero`)."""

    def __init__(
        self,
        task: LmEvalTask,
        rows: LoadedRows,
        source: str,
        settings: TaskSettings,
        chat: ChatTemplate | None,
        lm: Prompter,
    ) -> None:
        """Made by `LmEvalTask.bind`."""
        card = task.card
        self.task = task
        self.rows = rows
        self.lm = lm
        self.chat = chat
        self.name = card.name
        self.settings = settings
        self.version = f"{_version(lm)}/{card.version}"
        self.generative = card.generative
        self.parts = rows.parts
        self.source = source
        self.origin = rows.origin
        self.fingerprint = rows.fingerprint
        self.split_rows = rows.split_rows
        self.groups = rows.groups
        self.official_rows = card.splits
        self.deviations = list(rows.deviations)
        if card.lm_eval is not None and _version(lm) != card.lm_eval.version:
            self.deviations.append(f"lm-eval's task is version {_version(lm)}; the card knows {card.lm_eval.version}.")
        self.primary = "acc" if task.lists_letters(settings) else card.primary
        names = ["acc"] if task.lists_letters(settings) else card.metrics
        self.metrics: Sequence[MetricInfo] = [metric(name) for name in names]
        if self.may_be_unscored:
            self.metrics = [*self.metrics, unscored_as_zero(self.primary)]
        self._fewshot = FewShot(card.name, rows.examples, settings.shots or 0, settings.fewshot)
        self._prefixes: dict[tuple[str, ...], str] = {}

    def with_settings(self, settings: TaskSettings) -> LmEvalBound:
        """The same rows under other settings."""
        return self.task.join(self.rows, self.source, settings, self.chat)

    def eval_docs(self) -> Sequence[Doc]:
        """The eval part in an order by hash, cut at `limit`: fewer items are a subset of more."""
        return self._eval_docs

    def example(self, doc: Doc) -> Example:
        """Prompt without few-shot examples and the gold continuation exactly as evaluation scores it."""
        view = self._view(doc)
        _, prompt = self.lm.render(view, [], self._chat())
        return Example(doc.id, self.name, prompt, self._gold_continuation(view))

    def requests(self, doc: Doc, seed: int) -> list[Request]:
        """One log-likelihood request per choice in order, or one generation."""
        view = self._view(doc)
        prefix, context = self._prompt(doc, view, seed)
        if not self.generative:
            return [Request("loglikelihood", prefix, context, choice) for choice in self._continuations(view)]
        generation = self.lm.config.generation_kwargs
        return [
            Request(
                "generate",
                prefix,
                context,
                until=tuple(generation["until"]),
                max_new_tokens=self.settings.max_new_tokens,
            )
        ]

    def gold_request(self, doc: Doc, seed: int) -> Request | None:
        """The gold answer after the same prompt; None for choices, whose gold is among the requests."""
        if not self.generative:
            return None
        view = self._view(doc)
        return Request("loglikelihood", *self._prompt(doc, view, seed), self._gold_continuation(view))

    def score(self, doc: Doc, outputs: Sequence[Any]) -> ScoredItem:
        """lm-eval's filters and metrics on one item's raw outputs."""
        return self.score_texts(doc, outputs) if self.generative else self.score_choices(doc, outputs)

    def score_choices(self, doc: Doc, outputs: Sequence[Any]) -> ScoredItem:
        """Score `(loglikelihood, is_greedy)` per choice."""
        view = self._view(doc)
        choices = self.lm.doc_to_choice(view)
        results = self.lm.process_results(view, [tuple(output) for output in outputs])
        weights = [len(choice) if self.primary == "acc_norm" else 1 for choice in choices]
        scores = [output[0] / weight for output, weight in zip(outputs, weights, strict=True)]
        predicted, gold = scores.index(max(scores)), self.lm.gold_index(view)
        return ScoredItem(
            prediction=choices[predicted],
            gold=choices[gold],
            metrics={info.name: float(results[info.name]) for info in self.metrics if info.aggregation == "mean"},
            extra={"gold_index": gold, "predicted_index": predicted},
        )

    def score_texts(self, doc: Doc, texts: Sequence[str]) -> ScoredItem:
        """Score generated texts with lm-eval's filters; a metric is named `METRIC_FILTER` where there are several."""
        view = self._view(doc)
        extracted = self.lm.filtered(view, texts)
        values: dict[str, float | None] = {}
        prediction = ""
        for name, answer in extracted.items():
            for key, value in self.lm.process_results(view, [answer]).items():
                label = key if len(extracted) == 1 else f"{key}_{name.partition('-')[0]}"
                values[label] = float(value)
                if label == self.primary:
                    prediction = answer
        return ScoredItem(prediction, self.gold_text(doc), values)

    def gold_text(self, doc: Doc) -> str:
        """The gold answer for people to read."""
        return self._gold_continuation(self._view(doc)).strip()

    def aggregate(self, items: Sequence[ScoredItem]) -> dict[str, tuple[float, int]]:
        """Value and number of scored items of every metric that any item has; unscored items also as 0."""
        totals: dict[str, tuple[float, int]] = {}
        for info in self.metrics:
            if info.aggregation == "mean":
                values = [value for item in items if (value := item.metrics.get(info.name)) is not None]
                if values:
                    totals[info.name] = (sum(values) / len(values), len(values))
            elif items:
                pairs = [(item.extra["gold_index"], item.extra["predicted_index"]) for item in items]
                totals[info.name] = (float(self.lm.aggregation()[info.name](pairs)), len(pairs))
        missing = sum(item.metrics.get(self.primary) is None for item in items)
        if self.may_be_unscored and missing:
            total = sum(value for item in items if (value := item.metrics.get(self.primary)) is not None)
            totals[unscored_as_zero(self.primary).name] = (total / len(items), len(items))
        return totals

    def chance(self) -> float:
        """Mean over the eval items of 1 / number of choices."""
        if self.generative:
            return 0.0
        sizes = [len(self.lm.doc_to_choice(self._view(doc))) for doc in self._eval_docs]
        return sum(1 / size for size in sizes) / len(sizes)

    def majority(self) -> float | None:
        """Share of the eval items whose gold is at the most frequent position."""
        if self.generative:
            return None
        golds = Counter(self.lm.gold_index(self._view(doc)) for doc in self._eval_docs)
        return golds.most_common(1)[0][1] / golds.total()

    @cached_property
    def _eval_docs(self) -> list[Doc]:
        return chosen(self.parts["eval"], lambda name: unit_interval("limit", name), self.settings.limit)

    def _view(self, doc: Doc) -> View:
        return self.lm.view(self.task.view(dict(doc.row)))

    def _chat(self) -> ChatTemplate | None:
        if self.settings.chat_template and self.chat is None:
            raise ValueError(f"{self.name} is asked for conversations but has no chat template to render them.")
        return self.chat if self.settings.chat_template else None

    def _continuations(self, view: View) -> list[str]:
        return self.lm.continuations(view, chat=self.settings.chat_template)

    def _gold_continuation(self, view: View) -> str:
        return self._continuations(view)[0 if self.generative else self.lm.gold_index(view)]

    def _prompt(self, doc: Doc, view: View, seed: int) -> tuple[str, str]:
        examples = self._fewshot.examples(doc, seed)
        key = tuple(example.id for example in examples)
        if key in self._prefixes:
            return self._prefixes[key], self.lm.render(view, [], None)[1]
        prefix, context = self.lm.render(view, [self._view(example) for example in examples], self._chat())
        if self.settings.fewshot == "fixed" and not self.settings.chat_template:
            self._prefixes[key] = prefix
        return prefix, context


class LmEvalTask(RowTask):
    """A task of lm-eval, described by its card."""

    bound_class: ClassVar[type[LmEvalBound]] = LmEvalBound

    def config(self, settings: TaskSettings) -> dict[str, Any]:
        """lm-eval's task file; for choices with the card's metrics, so that accuracy stands beside MCC."""
        from tasks.lm_eval_adapter import task_file

        assert self.card.lm_eval is not None, f"the card of {self.name} names no task file"
        config = task_file(self.card.lm_eval.file)
        if not self.card.generative:
            config["metric_list"] = [{"metric": name} for name in self.card.metrics]
        return config

    def view(self, row: Row) -> Row:
        """The row with the columns that lm-eval's task file wants."""
        return row

    def options(self, view: View) -> tuple[str, list[str]]:
        """Question and options of a row, for `prompt=letters`; needed where the card says `letters: true`."""
        raise NotImplementedError(f"{self.name} lists no options")

    def lists_letters(self, settings: TaskSettings) -> bool:
        """Whether these settings turn the task's choices into letters."""
        return settings.prompt == "letters" and self.card.letters

    def bind(self, source: Source, settings: TaskSettings, chat: ChatTemplate | None = None) -> LmEvalBound:
        """Load rows, divide them, and join them with lm-eval's prompts and metrics."""
        source = source_of(source, self.card.dataset)
        return self.join(self.load(source), source.kind, settings, chat)

    def bind_for_training(
        self, source: Source, settings: TaskSettings, chat: ChatTemplate | None = None
    ) -> LmEvalBound:
        """See `Task.bind_for_training`."""
        source = source_of(source, self.card.dataset)
        return self.join(self.load_for_training(source), source.kind, settings, chat)

    def join(
        self, rows: LoadedRows, source: str, settings: TaskSettings, chat: ChatTemplate | None = None
    ) -> LmEvalBound:
        """Join rows that are loaded with lm-eval's prompts and metrics.

        Raises:
            TaskUnavailable: more few-shot examples are asked for than there are training rows, or a prompt that the
                task does not have.
        """
        from tasks.lm_eval_adapter import Prompter

        shots = self.card.shots if settings.shots is None else settings.shots
        settings = settings.model_copy(update={"shots": shots})
        available = len(rows.examples)
        if shots > available:
            raise TaskUnavailable(
                f"{self.name} is asked for {shots} few-shot examples, but the source ({source}) has {available} "
                "training rows for it: ask for fewer."
            )
        config = self.config(settings)
        if self.lists_letters(settings):
            config |= self._letters()
        if settings.prompt == "flan":
            config |= self._flan()
        first = next(doc for part in ("eval", "expert-train") for doc in rows.parts[part])
        lm = Prompter(config, self.view(dict(first.row)))
        return self.bound_class(self, rows, source, settings, chat, lm)

    def _flan(self) -> dict[str, Any]:
        prompt = FLAN.get(self.card.name)
        if prompt is None:
            raise TaskUnavailable(
                f"{self.name} has no FLAN prompt, which {', '.join(FLAN)} have: choose eval.prompt=cloze or letters."
            )
        return {"doc_to_text": prompt.text, "doc_to_choice": list(prompt.answers)}

    def _letters(self) -> dict[str, Any]:
        def text(view: View) -> str:
            question, options = self.options(view)
            listed = "".join(f"{letter}. {option}\n" for letter, option in zip(LETTERS, options, strict=False))
            return f"{question}\n{listed}Answer:"

        def choices(view: View) -> list[str]:
            return list(LETTERS[: len(self.options(view)[1])])

        return {"doc_to_text": text, "doc_to_choice": choices, "metric_list": [{"metric": "acc"}]}


def _version(lm: Prompter) -> str:
    return "none" if lm.VERSION == "Yaml" else str(lm.VERSION)
