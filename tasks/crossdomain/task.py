"""The tasks `math-medical` and `math-coding`: a made set, answered in free text and judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

from tasks.base import TaskSettings
from tasks.judged import JudgedTask
from tasks.row_task import LoadedRows
from tasks.sources import DirectorySource, Source, source_of
from tasks.sources.base import Row


class CrossDomain(JudgedTask):
    """Questions that need two domains. All of a set is evaluated; no expert is trained on it."""

    rubric: ClassVar[str] = "cross-domain"
    only_evaluated = True

    def sources(self) -> Sequence[str]:
        """A data directory with a made set, and the command that makes one."""
        return [
            f"--data DIR with {self.card.set}/{self.card.config}/test.jsonl, made by "
            f"`harness make-crossdomain {self.name} --n 200 --output DIR`"
        ]

    def check(self, source: Source) -> None:
        """Make sure that the source has a made set."""
        super().check(self._data_directory(source))

    def load(self, source: Source) -> LoadedRows:
        """The rows, with a note on who wrote the questions."""
        rows = super().load(self._data_directory(source))
        models = ", ".join(sorted({str(doc.row["model"]) for doc in rows.parts["eval"]}))
        note = f"The questions were written by {models}; the paper's own set is not published."
        return dataclasses.replace(rows, deviations=(*rows.deviations, note))

    def prompt_file(self, settings: TaskSettings) -> dict[str, Any]:
        """Question and answer, as in lm-eval's own open question tasks."""
        return {"task": self.name, "doc_to_text": "Question: {{question}}\nAnswer:"}

    def gold_answer(self, row: Row) -> str:
        """The worked solution and the result."""
        return f"{row['solution']}\nFinal answer: {row['answer']}"

    def _data_directory(self, source: Source) -> Source:
        """The data directory around a made set's own folder, when that was given; else the source as it is."""
        source = source_of(source, self.card.dataset)
        if isinstance(source, DirectorySource) and (source.root / "set.json").is_file():
            return DirectorySource(source.root.resolve().parent.parent)
        return source
