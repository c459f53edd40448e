"""Tasks whose answers are programs: generated, run in the sandbox, judged by their tests."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from tasks.base import ChatTemplate, Doc, MetricInfo, Request, ScoredItem, TaskSettings
from tasks.lm_eval_task import LmEvalBound, LmEvalTask
from tasks.row_task import LoadedRows
from tasks.sandbox import Outcome, Program, Verdict, control_groups, evaluate_programs, level_versions, strongest

PASS_AT = (1, 2, 5, 8, 10, 16, 32, 64, 100)
"""Values of k that are reported, as far as there are samples."""

FENCE = "```"


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Unbiased estimate of the chance that one of `k` answers passes (Chen et al. 2021, arXiv 2107.03374, equation 1).

    Args:
        samples: judged answers, at least `k`.
        passed: how many of them passed.
    """
    if k > samples:
        raise ValueError(f"pass@{k} needs {k} judged answers; there are {samples}.")
    return 1.0 - math.comb(samples - passed, k) / math.comb(samples, k)


def cut(text: str, until: Sequence[str]) -> str:
    """The text before the first stop string."""
    return text[: min((at for stop in until if (at := text.find(stop)) >= 0), default=len(text))]


class CodeBound(LmEvalBound):
    """A task of programs. Extra of an item: outcome and detail of each answer, and the level of isolation."""

    task: CodeTask
    runs_code = True
    may_be_unscored = True

    def __init__(
        self,
        task: CodeTask,
        rows: LoadedRows,
        source: str,
        settings: TaskSettings,
        chat: ChatTemplate | None,
        lm: Any,
    ) -> None:
        super().__init__(task, rows, source, settings, chat, lm)
        self._ks = [k for k in PASS_AT if k <= settings.samples]
        self.metrics = [*(MetricInfo(f"pass@{k}") for k in self._ks), *self.metrics[1:]]
        if settings.chat_template:
            file = task.instruct_file.rpartition("/")[2].removesuffix(".yaml")
            self.deviations = [*rows.deviations, f"Conversations are those of lm-eval's {file}."]
        self._verdicts: dict[tuple[str, Program], Verdict] = {}
        self._scored: list[tuple[Program, Verdict]] = []

    def with_settings(self, settings: TaskSettings) -> CodeBound:
        """The same rows and minimum of isolation under other settings."""
        other = super().with_settings(settings)
        assert isinstance(other, CodeBound)
        other.min_isolation = self.min_isolation
        other._verdicts = self._verdicts
        return other

    def requests(self, doc: Doc, seed: int) -> list[Request]:
        """One generation of `settings.samples` answers."""
        (request,) = super().requests(doc, seed)
        return [replace(request, samples=self.settings.samples, temperature=self.settings.temperature)]

    def score(self, doc: Doc, outputs: Sequence[Any]) -> ScoredItem:
        """Run one item's answers.

        Raises:
            SandboxUnavailable: no level of isolation at or above the minimum works here.
        """
        return self.score_all([doc], [outputs])[0]

    def score_all(self, docs: Sequence[Doc], outputs: Sequence[Sequence[Any]]) -> list[ScoredItem]:
        """Run all answers, several at a time; equal answers to an item are run once.

        Raises:
            SandboxUnavailable: no level of isolation at or above the minimum works here.
        """
        level = strongest(self.min_isolation)
        programs = [[self.program(doc, text) for text in texts] for doc, texts in zip(docs, outputs, strict=True)]
        known = self._verdicts
        new = list(dict.fromkeys(p for answers in programs for p in answers if (level.name, p) not in known))
        fresh = dict(zip(new, evaluate_programs(new, level=level), strict=True))
        known |= {(level.name, program): verdict for program, verdict in fresh.items() if _lasting(verdict)}
        judged = [
            [(program, fresh.get(program) or known[level.name, program]) for program in answers] for answers in programs
        ]
        self._scored = [pair for answers in judged for pair in answers]
        return [self._item(doc, answers) for doc, answers in zip(docs, judged, strict=True)]

    def program(self, doc: Doc, text: str) -> Program:
        """The candidate in a generated text, with the item's check."""
        return self.task.program(doc, cut(text, self.lm.config.generation_kwargs["until"]))

    def record_extra(self) -> dict[str, Any]:
        """Level with versions, outcomes, the names of items without a verdict, and seconds, of the last `score_all`."""
        if not self._scored:
            return {}
        verdicts = [verdict for _, verdict in self._scored]
        by_name = {outcome: self._named(outcome) for outcome in Outcome if not outcome.scored}
        seconds = [verdict.seconds for verdict in verdicts]
        return {
            "sandbox": {
                "level": verdicts[0].level,
                "versions": level_versions(verdicts[0].level),
                "control groups": control_groups(),
                "outcomes": dict(Counter(verdict.outcome.value for verdict in verdicts)),
                **{outcome.value: names for outcome, names in by_name.items() if names},
                "seconds": {"total": round(sum(seconds), 3), "longest": round(max(seconds), 3)},
            }
        }

    def _named(self, outcome: Outcome) -> list[str]:
        return sorted({program.id for program, verdict in self._scored if verdict.outcome is outcome})

    def _item(self, doc: Doc, answers: Sequence[tuple[Program, Verdict]]) -> ScoredItem:
        verdicts = [verdict for _, verdict in answers]
        judged = [verdict.outcome is Outcome.PASSED for verdict in verdicts if verdict.outcome.scored]
        metrics = {f"pass@{k}": pass_at_k(len(judged), sum(judged), k) if k <= len(judged) else None for k in self._ks}
        return ScoredItem(
            prediction=answers[0][0].code,
            gold=self.gold_text(doc),
            metrics=metrics,
            extra={
                "outcomes": [verdict.outcome.value for verdict in verdicts],
                "details": [verdict.detail for verdict in verdicts],
                "level": verdicts[0].level,
            },
        )


def _lasting(verdict: Verdict) -> bool:
    """Whether running it again would tell the same; the others depend on how busy the machine is."""
    return verdict.outcome in (Outcome.PASSED, Outcome.FAILED, Outcome.UNSCORABLE)


class CodeTask(LmEvalTask):
    """A task answered with a program.

    Prompts are those of lm-eval's task file; conversations take its variant for instruction-tuned models, whose answer
    is a fenced block. The files' helpers run code when imported, so only their text is read.
    """

    bound_class: ClassVar[type[LmEvalBound]] = CodeBound
    gold: ClassVar[str]
    """Template of the gold answer as the model should write it."""
    instruct_file: ClassVar[str]
    instruct_gold: ClassVar[str] = ""
    """Template of the gold answer in a conversation; empty where it is the same."""

    def config(self, settings: TaskSettings) -> dict[str, Any]:
        """lm-eval's prompt and stop strings, our gold answer; scores are the sandbox's."""
        from tasks.lm_eval_adapter import task_file

        assert self.card.lm_eval is not None, f"the card of {self.name} names no task file"
        file = self.instruct_file if settings.chat_template else self.card.lm_eval.file
        config = task_file(file, resolve_functions=False)
        for key in ("filter_list", "fewshot_config", "unsafe_code"):
            config.pop(key, None)
        until = [FENCE] if settings.chat_template else config["generation_kwargs"]["until"]
        gold = self.instruct_gold if settings.chat_template and self.instruct_gold else self.gold
        return config | {
            "doc_to_target": gold,
            "target_delimiter": "",
            "generation_kwargs": {"until": until},
            "metric_list": [],
        }

    @abstractmethod
    def program(self, doc: Doc, answer: str) -> Program:
        """The candidate program of an answer, with the item's trusted check and reference."""
