"""Cells of tables from intervals and records."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from reports import notes
from reports.outcomes import resampled
from reports.scores import Scores
from reports.statistics import Interval, mean_interval, numbered
from reports.tables import Cell, Footnotes

PARAMETERS, TRAINING, EVALUATION = "trainable", "fit seconds", "eval seconds"


def score_interval(one: Scores) -> Interval:
    """Interval of one method's score on one task.

    Means: see `mean_interval`. Metrics of all items at once (F1, MCC): percentile bootstrap over items for one seed,
    Student's interval over items and seeds from the jackknife's pseudo-values for several.
    """
    found = mean_interval(one.values, groups=one.groups)
    if one.counted is None or not one.values.shape[1]:
        return found
    value = one.counted.value()
    if np.isnan(found.std) and found.n > 1:
        labels = numbered(one.groups, found.n)
        draws = resampled(one.counted, labels=labels)
        low, high = np.quantile(draws, [0.5 - found.level / 2, 0.5 + found.level / 2])
        note = found.note if one.values.shape[0] > 1 else None
        how = "bootstrap over items" if labels is None else "bootstrap over groups of items"
        return Interval(value, float(low), float(high), found.n, how, found.seeds, level=found.level, note=note)
    return found


def interval_cell(
    interval: Interval, factor: float, runs: tuple[str, ...] = (), footnotes: tuple[str, ...] = ()
) -> Cell:
    """A cell from an interval; numbers that do not exist become None."""

    def shown(number: float) -> float | None:
        return None if math.isnan(number) else number * factor

    return Cell(
        shown(interval.value),
        shown(interval.low),
        shown(interval.high),
        shown(interval.std),
        interval.n,
        interval.seeds,
        runs,
        footnotes=footnotes,
    )


def cost_cells(scores: Sequence[Scores], footnotes: Footnotes | None = None) -> dict[str, Cell]:
    """Trained parameters, seconds of fitting and of evaluation, of one method over its tasks.

    A row that trains nothing itself gets a footnote with the size of its experts, which stage 1 trained.

    Fitting is a stage of its own whose seconds are stored with it: equal numbers in several tasks' records are the
    same stage and count once. Rows whose tokens cost several passes of the base model say so at their seconds.
    """
    if not scores:
        return {name: Cell() for name in (PARAMETERS, TRAINING, EVALUATION)}
    records = [record for one in scores for record in one.records]
    runs = tuple(record.cell for record in records)
    seeds = len({record.spec.seed for record in records})
    fits = {(r.spec.seed, r.cost.seconds.get("fit")) for r in records}
    spent = [seconds for _, seconds in fits if seconds is not None]
    fitting = sum(spent) / seeds if len(spent) == len(fits) else None  # a fit that was deleted took its seconds along
    evaluation = sum(r.cost.seconds.get("evaluate", 0.0) + r.cost.seconds.get("score", 0.0) for r in records)
    trained = max(sum(record.parameters.trainable.values()) for record in records)
    experts = max(record.parameters.stored.get("experts", 0) for record in records)
    keys = (footnotes.key(notes.frozen_sentence(experts)),) if footnotes and experts and not trained else ()
    passes = max(record.cost.passes for record in records)
    several = (footnotes.key(notes.passes_sentence(passes)),) if footnotes and passes > 1 else ()
    return {
        PARAMETERS: Cell(float(trained), runs=runs, footnotes=keys),
        TRAINING: Cell(fitting, runs=runs, seeds=seeds),
        EVALUATION: Cell(evaluation / seeds, runs=runs, seeds=seeds, footnotes=several),
    }
