"""Intervals, paired tests and power for tables of benchmark scores. scipy is imported when first used."""

from reports.statistics.intervals import Interval, bootstrap, mean_interval, t_interval, task_mean, wilson
from reports.statistics.paired import PairedTest, holm, mcnemar, paired_test, sign_flip
from reports.statistics.power import detectable, items_needed

__all__ = [
    "Interval",
    "PairedTest",
    "bootstrap",
    "detectable",
    "holm",
    "items_needed",
    "mcnemar",
    "mean_interval",
    "paired_test",
    "sign_flip",
    "t_interval",
    "task_mean",
    "wilson",
]
