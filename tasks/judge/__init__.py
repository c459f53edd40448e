"""Answers judged by a language model behind any OpenAI-compatible endpoint.

`judge(items, JudgeConfig(preset="deepseek"), cache=folder)` gives a `JudgeReport`: a score from 0 to 100 with a reason
for every answer, or why there is none. Importing this package imports neither the client nor torch.
"""

from __future__ import annotations

from tasks.judge.availability import check
from tasks.judge.config import LOCAL_COMMAND, PRESETS, EndpointConfig, JudgeConfig, JudgeUnavailable
from tasks.judge.endpoint import Budget
from tasks.judge.report import JudgeItem, JudgeReport, Opinion, Verdict
from tasks.judge.running import Judge, judge, judge_async

__all__ = [
    "LOCAL_COMMAND",
    "PRESETS",
    "Budget",
    "EndpointConfig",
    "Judge",
    "JudgeConfig",
    "JudgeItem",
    "JudgeReport",
    "JudgeUnavailable",
    "Opinion",
    "Verdict",
    "check",
    "judge",
    "judge_async",
]
