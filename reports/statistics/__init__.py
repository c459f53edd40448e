"""Intervals, paired tests and power for tables of benchmark scores. scipy is imported when first used."""

from reports.statistics.clusters import Groups, clustered, numbered
from reports.statistics.combined import Part, half_width, tail_p
from reports.statistics.intervals import Interval, bootstrap, mean_interval, t_interval, task_mean, wilson
from reports.statistics.levels import above_level
from reports.statistics.paired import MIN_SEEDS, Outcome, PairedTest, holm, paired_test
from reports.statistics.power import (
    Size,
    deciding,
    detectable,
    detectable_by,
    detectable_mean,
    items_needed,
    seeds_needed,
)
from reports.statistics.signs import mcnemar, sign_flip
from reports.statistics.variance import is_binary

__all__ = [
    "MIN_SEEDS",
    "Groups",
    "Interval",
    "Outcome",
    "PairedTest",
    "Part",
    "Size",
    "above_level",
    "bootstrap",
    "clustered",
    "deciding",
    "detectable",
    "detectable_by",
    "detectable_mean",
    "half_width",
    "holm",
    "is_binary",
    "items_needed",
    "mcnemar",
    "mean_interval",
    "numbered",
    "paired_test",
    "seeds_needed",
    "sign_flip",
    "t_interval",
    "tail_p",
    "task_mean",
    "wilson",
]
