"""Tasks over one file of rows: `--tasks ./my_quiz.jsonl`. What a card would say follows from the rows.

With choices it is scored by likelihood, as ARC is (`acc_norm`, `acc`); without, the model answers freely and the answer
must match exactly, and the gold answer is measured in bits per byte. Rows are divided into parts by their hash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results.ground.errors import HarnessError
from tasks.base import ChatTemplate, Doc, ScoredItem, TaskSettings
from tasks.card import TaskCard
from tasks.lm_eval_task import LmEvalBound, LmEvalTask
from tasks.row_file import read_row_file, suffix_of
from tasks.row_task import LoadedRows
from tasks.sources.base import DatasetRef, Kind, Row, Source, SourceError, View

SPLIT = "rows"
STOPS = ("\n", "\n\n", "\nQuestion:")
"""What ends a free answer: the first of these that no gold answer holds."""


class TaskFileError(HarnessError, ValueError):
    """A file that is no task; the message is one sentence that names the mend."""


class TaskRowsError(TaskFileError, SourceError):
    """Rows of a task file that cannot be used: the task's own cells are refused for it, and others go on."""


class RowFileSource:
    """The rows of one file, as they were when it was read."""

    kind: Kind = "file"

    def __init__(self, path: Path, rows: Sequence[Row]) -> None:
        self.path = path
        self._rows = list(rows)

    def describe(self) -> str:
        """The file."""
        return f"the file {self.path}"

    def has(self, dataset: DatasetRef, split: str) -> bool:
        """Whether it is the one split there is."""
        return split == SPLIT

    def rows(self, dataset: DatasetRef, split: str) -> list[Row]:
        """All rows."""
        return list(self._rows)

    def origin(self, dataset: DatasetRef) -> str:
        """The file."""
        return str(self.path)


class RowFileBound(LmEvalBound):
    """Free answers match exactly or not; white space around them does not count."""

    def score_texts(self, doc: Doc, texts: Sequence[str]) -> ScoredItem:
        """See `LmEvalBound.score_texts`."""
        prediction, gold = texts[0].strip(), self.gold_text(doc)
        return ScoredItem(prediction, gold, {"exact_match": float(prediction == gold)})


class RowFileTask(LmEvalTask):
    """A task of one file. It is there whatever `--data` says."""

    bound_class = RowFileBound

    def __init__(self, card: TaskCard, file: RowFileSource) -> None:
        super().__init__(card)
        self.file = file

    def check(self, source: Source) -> None:
        """It needs no source."""

    def load(self, source: Source) -> LoadedRows:
        """The file's rows, divided."""
        return super().load(self.file)

    def bind(self, source: Source, settings: TaskSettings, chat: ChatTemplate | None = None) -> LmEvalBound:
        """See `Task.bind`; the source is the file."""
        return self.join(self.load(source), self.file.kind, settings, chat)

    def bind_for_training(
        self, source: Source, settings: TaskSettings, chat: ChatTemplate | None = None
    ) -> LmEvalBound:
        """The same: a file is one split."""
        return self.bind(source, settings, chat)

    def options(self, view: View) -> tuple[str, list[str]]:
        """Question and choices."""
        return f"Question: {view['question']}", view["choices"]

    def config(self, settings: TaskSettings) -> dict[str, Any]:
        """A task file in lm-eval's form, with the prompt of ARC."""
        config: dict[str, Any] = {"task": self.name, "doc_to_text": "Question: {{question}}\nAnswer:"}
        if not self.card.generative:
            return config | {
                "output_type": "multiple_choice",
                "doc_to_target": "answer",
                "doc_to_choice": "choices",
                "metric_list": [{"metric": name} for name in self.card.metrics],
            }
        answers = [str(row["answer"]) for row in self.file.rows(self.card.dataset, SPLIT)]
        free = [stop for stop in STOPS if not any(stop in answer for answer in answers)]
        if not free:
            raise TaskRowsError(f"Answers of {self.file.path} hold '\\nQuestion:', at which answers end: take it out.")
        return config | {
            "output_type": "generate_until",
            "doc_to_target": "answer",
            "generation_kwargs": {"until": [free[0]]},
            "metric_list": [],
        }


def file_name(path: Path) -> str:
    """The name of the task in a file: the file's without its ending."""
    suffix = suffix_of(path)
    return path.name[: -len(suffix)] if suffix else path.stem


def read_row_task(path: Path) -> RowFileTask:
    """The task of one file of rows.

    Args:
        path: absolute.

    Raises:
        SourceError: the file is not there, holds no rows or a wrong one.
    """
    rows, unused = read_row_file(path)
    return RowFileTask(_card(path, rows, unused), RowFileSource(path, rows))


def read_rows_beside(module: Path, name: str) -> RowFileSource:
    """The rows that a packaged task keeps beside its module.

    Raises:
        SourceError: see `tasks.row_file.read_row_file`.
    """
    path = module.resolve().with_name(name)
    return RowFileSource(path, read_row_file(path)[0])


def _card(path: Path, rows: Sequence[Row], unused: Sequence[str]) -> TaskCard:
    name, columns = file_name(path), tuple(rows[0])
    choices = [len(row["choices"]) for row in rows] if "choices" in columns else []
    fewest, most = min(choices, default=0), max(choices, default=0)
    number = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    noun = "question" if len(rows) == 1 else "questions"
    levels: dict[str, Any] = {}
    if choices:
        golds = Counter(row["answer"] for row in rows)
        levels["chance"] = sum(1 / n for n in choices) / len(choices)
        levels["majority"] = golds.most_common(1)[0][1] / len(rows)
    not_used = f" Not used: {', '.join(unused)}." if unused else ""
    scored = (
        "The choices' likelihoods are compared, with length normalisation (`acc_norm`) and without."
        if choices
        else "The model's answer, up to the end of its line where all answers are one line, must equal the gold "
        "answer; `bits_per_byte` is the negative log-likelihood of the gold answer per UTF-8 byte, in bits."
    )
    values = dict(
        name=name,
        summary=f"{len(rows)} {noun} of {path.name}, {f'{number} choices' if choices else 'free answer'}.",
        family="file",
        set=name,
        config="default",
        columns=columns,
        inputs=("question", "choices") if choices else ("question",),
        group_by=("question",) if choices else (),
        id_column="id" if "id" in columns else None,
        splits={SPLIT: len(rows)},
        roles={"eval": SPLIT},
        licence="not stated",
        expert=name,
        metrics=("acc_norm", "acc") if choices else ("exact_match", "bits_per_byte"),
        primary="acc_norm" if choices else "exact_match",
        generative=not choices,
        letters=bool(choices),
        sources=("file",),
        body=f"The rows of `{path}`.{not_used}\n\n**Score.** {scored}\n\n**Parts.** The rows are divided by a hash of "
        "the question into all four parts.",
        **levels,
    )
    return TaskCard.model_validate({"class": "tasks.row_file_task:RowFileTask", **values})
