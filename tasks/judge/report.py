"""Verdicts and what can be said about a set of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tasks.judge.agreement import Agreement, exact_match_agreement, repeat_agreement


@dataclass(frozen=True)
class JudgeItem:
    """An answer to judge.

    `question` is what the candidate was asked, `reference` the gold answer where there is one, `exact` whether exact
    match calls the answer right (None where there is no gold option): the judge never sees it.
    """

    id: str
    question: str
    answer: str
    reference: str | None = None
    exact: bool | None = None


@dataclass(frozen=True)
class Opinion:
    """One reading of an answer: a score from 0 to 100 with a reason, or why there is none.

    `model` is the id that the endpoint returned, `structured` the `response_format` that the reply was given under,
    `cached` whether it cost nothing in this call.
    """

    score: float | None
    reason: str
    unscored: str | None = None
    detail: str = ""
    model: str = ""
    text: str = ""
    thinking: str = ""
    structured: str = "none"
    cached: bool = False


@dataclass(frozen=True)
class Verdict:
    """The outcome of one item: the mean score of its scored opinions; None when none is scored, never zero."""

    id: str
    opinions: tuple[Opinion, ...]

    @property
    def score(self) -> float | None:
        """Mean over scored opinions, 0 to 100."""
        scores = [opinion.score for opinion in self.opinions if opinion.score is not None]
        return sum(scores) / len(scores) if scores else None

    @property
    def decisive(self) -> Opinion:
        """The first scored opinion, else the first."""
        return next((opinion for opinion in self.opinions if opinion.score is not None), self.opinions[0])

    @property
    def unscored(self) -> str | None:
        """Why there is no score; None when there is one."""
        return self.decisive.unscored

    def extra(self) -> dict[str, Any]:
        """Details for an item's record, as JSON data."""
        details = [
            {key: value for key, value in asdict(opinion).items() if value not in (None, "") and key != "cached"}
            for opinion in self.opinions
        ]
        return {
            "judge_reason": self.decisive.reason,
            "judge_unscored": self.unscored,
            "judge_opinions": details,
        }


@dataclass(frozen=True)
class JudgeReport:
    """Verdicts in the order of the items, and what it took.

    `counts` has `scored` and every reason for unscored items; `models` the returned model ids over opinions.
    `requests`, `retries` and tokens are those of this call; `cached` opinions were read from disk.
    """

    verdicts: tuple[Verdict, ...]
    judge: dict[str, Any]
    counts: dict[str, int]
    models: dict[str, int]
    requests: int
    retries: int
    prompt_tokens: int
    completion_tokens: int
    tokens_estimated: bool
    cached: int
    structured_rejected: bool
    mean: float | None
    alpha: float | None
    alpha_note: str
    exact_match: Agreement | None

    @property
    def unscored(self) -> int:
        """Items without a score."""
        return len(self.verdicts) - self.counts["scored"]

    def summary(self) -> dict[str, Any]:
        """Everything but the verdicts, as JSON data for a record."""
        skipped = ("verdicts", "exact_match")
        facts = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in skipped}
        return {**facts, "exact_match": None if self.exact_match is None else asdict(self.exact_match)}

    def notes(self) -> list[str]:
        """Sentences that belong under a table."""
        sentences = []
        if self.unscored:
            why = ", ".join(f"{reason} {count}" for reason, count in self.counts.items() if reason != "scored")
            sentences.append(f"The judge left {self.unscored} of {len(self.verdicts)} answers unscored ({why}).")
        if len(self.models) > 1:
            sentences.append(f"The judge answered under several model ids: {', '.join(self.models)}.")
        return sentences


def build_report(
    items: Sequence[JudgeItem],
    verdicts: Sequence[Verdict],
    *,
    judge: dict[str, Any],
    requests: int,
    retries: int,
    prompt_tokens: int,
    completion_tokens: int,
    tokens_estimated: bool,
    structured_rejected: bool,
) -> JudgeReport:
    """Count, average and compare."""
    scores = [verdict.score for verdict in verdicts]
    known = [score for score in scores if score is not None]
    reasons = Counter(verdict.unscored for verdict in verdicts if verdict.unscored is not None)
    opinions = [opinion for verdict in verdicts for opinion in verdict.opinions]
    alpha, alpha_note = repeat_agreement([[opinion.score for opinion in verdict.opinions] for verdict in verdicts])
    return JudgeReport(
        verdicts=tuple(verdicts),
        judge=judge,
        counts={"scored": len(known), **dict(sorted(reasons.items()))},
        models=dict(Counter(opinion.model for opinion in opinions if opinion.model).most_common()),
        requests=requests,
        retries=retries,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        tokens_estimated=tokens_estimated,
        cached=sum(opinion.cached for opinion in opinions),
        structured_rejected=structured_rejected,
        mean=sum(known) / len(known) if known else None,
        alpha=alpha,
        alpha_note=alpha_note,
        exact_match=exact_match_agreement(scores, [item.exact for item in items]),
    )
