"""Tasks whose free answers a language model judges: the judged variants of MedQA and PubMedQA, and what they share.

Generation and verdict are apart: `score` parses what can be parsed without a judge, `score_all` asks the judge about a
whole set of stored answers at once, and may be called again with another judge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from tasks.answers import named_option, named_word
from tasks.base import Doc, ScoredItem, TaskSettings
from tasks.judge import JudgeItem, JudgeReport, JudgeUnavailable
from tasks.lm_eval_task import LmEvalBound, LmEvalTask
from tasks.medical import MedQa, MedQa5, PubMedQa
from tasks.sources.base import Row, View

UNTIL = ["\nQuestion:", "\nAbstract:", "</s>", "<|im_end|>", "<|eot_id|>"]


class JudgedBound(LmEvalBound):
    """A task with free answers. `judge_score` is on the judge's scale, 0 to 100; None without a verdict."""

    task: JudgedTask
    needs_judge = True
    may_be_unscored = True
    _report: JudgeReport | None = None

    def with_settings(self, settings: TaskSettings) -> LmEvalBound:
        """The same rows and judge under other settings."""
        other = super().with_settings(settings)
        other.judge = self.judge
        return other

    def score_texts(self, doc: Doc, texts: Sequence[str]) -> ScoredItem:
        """What exact match makes of an answer; the judge's verdict is left open."""
        prediction, right = self.task.exact_match(dict(doc.row), texts[0])
        metrics: dict[str, float | None] = {"judge_score": None}
        if right is not None:
            metrics["exact_match"] = float(right)
        return ScoredItem(prediction, self.gold_text(doc), metrics)

    def score_all(self, docs: Sequence[Doc], outputs: Sequence[Sequence[Any]]) -> list[ScoredItem]:
        """Exact match and verdict of every answer, in order.

        Raises:
            JudgeUnavailable: there is no judge, or it cannot be asked.
        """
        if self.judge is None:
            raise JudgeUnavailable(
                f"The task {self.name} needs a judge: configure one, e.g. with --set judge.preset=deepseek."
            )
        plain = super().score_all(docs, outputs)
        self._report = self.judge.with_rubric(self.task.rubric)(
            [self._item(doc, texts[0], item) for doc, texts, item in zip(docs, outputs, plain, strict=True)]
        )
        return [
            ScoredItem(
                item.prediction,
                item.gold,
                {**item.metrics, "judge_score": verdict.score},
                {**item.extra, **verdict.extra()},
            )
            for item, verdict in zip(plain, self._report.verdicts, strict=True)
        ]

    def scoring(self) -> dict[str, Any]:
        """The judge's identity."""
        return {} if self.judge is None else {"judge": self.judge.with_rubric(self.task.rubric).config.identity()}

    def record_extra(self) -> dict[str, Any]:
        """What the last `score_all` took, and how far the judge agrees with itself and with exact match."""
        return {} if self._report is None else {"judge": {**self._report.summary(), "notes": self._report.notes()}}

    def _item(self, doc: Doc, text: str, scored: ScoredItem) -> JudgeItem:
        right = scored.metrics.get("exact_match")
        return JudgeItem(
            id=doc.id,
            question=self.lm.doc_to_text(self._view(doc)).removesuffix("Answer:").strip(),
            answer=text.strip(),
            reference=scored.gold,
            exact=None if right is None else bool(right),
        )


class JudgedTask(LmEvalTask):
    """A task answered in free text: lm-eval's prompt, the gold answer in words as target, a judge's score."""

    bound_class = JudgedBound
    rubric: ClassVar[str] = "medical"
    gold_answer: Callable[[Row], str]
    """What the judge compares an answer with; the class beside this one in the list of bases has it."""

    def config(self, settings: TaskSettings) -> dict[str, Any]:
        """The likelihood task's file without choices; training and bits per byte rest on the gold answer."""
        config = self.prompt_file(settings)
        for key in ("doc_to_choice", "filter_list"):
            config.pop(key, None)
        return config | {
            "output_type": "generate_until",
            "doc_to_target": "gold_answer",
            "generation_kwargs": {"until": UNTIL},
            "metric_list": [],
        }

    def prompt_file(self, settings: TaskSettings) -> dict[str, Any]:
        """A task file of lm-eval whose prompt is used; its answers and metrics are replaced."""
        return super().config(settings)

    def view(self, row: Row) -> View:
        """The row with its gold answer beside."""
        return {**super().view(row), "gold_answer": self.gold_answer(row)}

    def exact_match(self, row: Row, text: str) -> tuple[str, bool | None]:
        """The answer parsed from a text, and whether it is the gold option; None where there are no options."""
        return text.strip(), None


class MedQaJudged(JudgedTask, MedQa):
    """MedQA with four options, answered in free text."""

    def exact_match(self, row: Row, text: str) -> tuple[str, bool | None]:
        """The option that a text settles on, by letter or by its words."""
        letter = named_option(text, row["options"])
        return letter, letter == row["answer_idx"]


class MedQa5Judged(MedQaJudged, MedQa5):
    """MedQA with five options, answered in free text."""


class PubMedQaJudged(JudgedTask, PubMedQa):
    """PubMedQA, answered with a conclusion in words."""

    def exact_match(self, row: Row, text: str) -> tuple[str, bool | None]:
        """The word that a text settles on: yes, no or maybe."""
        word = named_word(text)
        return word, word == row["final_decision"]
