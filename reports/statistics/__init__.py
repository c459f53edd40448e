"""Intervals, paired tests and power for tables of benchmark scores. scipy is imported when first used."""

from reports.statistics.intervals import Interval, bootstrap, mean_interval, t_interval, task_mean, wilson
from reports.statistics.paired import PairedTest, holm, mcnemar, paired_test, sign_flip
from reports.statistics.power import detectable, detectable_mean, items_needed, seeds_needed
from reports.statistics.variance import is_binary

__all__ = [
    "Interval",
    "PairedTest",
    "bootstrap",
    "detectable",
    "detectable_mean",
    "holm",
    "is_binary",
    "items_needed",
    "mcnemar",
    "mean_interval",
    "paired_test",
    "seeds_needed",
    "sign_flip",
    "t_interval",
    "task_mean",
    "wilson",
]
