"""Metrics by name: direction, unit, and how lm-evaluation-harness aggregates them."""

from __future__ import annotations

from tasks.base import MetricInfo

METRICS: dict[str, MetricInfo] = {
    info.name: info
    for info in (
        MetricInfo("acc"),
        MetricInfo("acc_norm"),
        MetricInfo("f1", aggregation="f1"),
        MetricInfo("mcc", unit="mcc", aggregation="matthews_corrcoef"),
        MetricInfo("exact_match_flexible"),
        MetricInfo("exact_match_strict"),
        MetricInfo("exact_match_numeric"),
        MetricInfo("judge_score", unit="score"),
        MetricInfo("bits_per_byte", higher_is_better=False, unit="bits/byte"),
    )
}


def metric(name: str) -> MetricInfo:
    """What is known of a metric; a name not listed is a fraction whose mean is taken."""
    return METRICS.get(name, MetricInfo(name))


def unscored_as_zero(name: str) -> MetricInfo:
    """The second mean of a metric that may lack values: items without one count as 0, on the metric's own scale."""
    info = metric(name)
    return MetricInfo(f"{name}_unscored_as_0", info.higher_is_better, info.unit)
