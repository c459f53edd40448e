"""The generic table of a run: methods by tasks, with cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from reports import controls, notes
from reports.cells import EVALUATION, PARAMETERS, TRAINING
from reports.outcomes import DERIVED
from reports.panel import PANEL_TITLES, SHORT_TITLES, VERDICT, Options, PanelBuilder, question
from reports.ranking import MEAN, Family, family
from reports.scores import Items, Key, Scores, averaged, gather, grouped
from reports.tables import Column, Footnotes, Panel, Table, display_unit
from results.schema import Record, Track

ORACLE = "oracle"


def comparison(
    records: Sequence[Record],
    items: Items,
    *,
    name: str = "comparison",
    title: str = "Comparison",
    options: Options | None = None,
) -> Table:
    """Methods by tasks: one panel per model and track, each with its own marks and corrected tests.

    Methods that are told the task at test time stand in a panel of their own, and take no part in tests or marks.

    Args:
        records: of all statuses; failed and refused ones become footnotes.
        items: of every finished record.
    """
    options = options or Options()
    scores = gather(records, items, options.metric)
    groups = grouped(records)
    tasks = list(options.tasks) or notes.distinct(key.task for key in groups)
    means = mean_tasks(scores, tasks)
    footnotes, panels, builders = Footnotes(), [], []
    several = len({key.model for key in groups}) > 1
    for model in notes.distinct(key.model for key in groups) or ([""] if options.expected else []):
        for track in ("compose", "joint", ORACLE):
            methods = panel_methods(groups, model, track, options)
            if not methods:
                continue
            builder = PanelBuilder(
                model, methods, tasks, means.tasks, groups, scores, footnotes, options, tested=track != ORACLE
            )
            heading, short = (
                f"{model}: {titles[track]}" if several else titles[track] for titles in (PANEL_TITLES, SHORT_TITLES)
            )
            panels.append(Panel(f"{model}/{track}", heading, builder.rows()))
            builders.append((short, builder))
    if len(panels) == 1 and not several:
        panels = [replace(panels[0], title="")]
        builders = [("", builder) for _, builder in builders]
    elif not several and len([1 for _, builder in builders if builder.tested]) == 1:
        builders = [("", builder) for _, builder in builders]
    done = [record for record in records if record.status == "done"]
    under = [*notes.provenance(done), notes.seeds_sentence(scores.values())] if done else []
    under += notes.clusters_sentences(scores.values())
    under += sentences_on_means(options, tasks, means)
    computed_on = notes.machines(records)
    if options.cost and len(computed_on) > 1:
        under.append(f"Seconds are left out: cells were computed on different machines ({'; '.join(computed_on)}).")
    for short, builder in builders:
        under += notes.sentences_on_tests(builder.tests, builder.columns, short)
    under += controls.sentences(groups, scores, means.tasks, options.controls)
    if any(record.uses_task_identity for record in records):
        under.append("† knows the task at test time.")
    return Table(
        name,
        title,
        _columns(tasks, means, scores, options, [builder for _, builder in builders], timed=len(computed_on) < 2),
        tuple(panels),
        notes=tuple(notes.distinct(under)),
        footnotes=footnotes.texts(),
        metric=options.metric,
    )


def sentences_on_means(options: Options, tasks: Sequence[str], means: Means) -> list[str]:
    """Which metric the values are of, and what the means leave out."""
    under = [f"Metric: {options.metric}."] if options.metric else []
    if not options.mean or len(means.tasks) < 2:
        return under
    if len(means.tasks) < len(tasks):
        under.append(f"Means are over {', '.join(means.tasks)}.")
    if means.floored:
        under.append(
            f"Not in the mean: {', '.join(means.floored)}, where every row is at the floor (nothing right, or one "
            "answer to every item)."
        )
    if means.others:
        under.append(f"Not in the mean: {', '.join(means.others)}, with values in another unit.")
    return under


def measured_tasks(scores: Iterable[Key], tasks: Sequence[str]) -> list[str]:
    """Tasks with a finished cell of any method, in the order of columns."""
    found = {key.task for key in scores}
    return [task for task in tasks if task in found]


class Means(NamedTuple):
    """Tasks that the mean is over, and the measured ones that it leaves out.

    Attributes:
        tasks: of one unit (`reports.scores.averaged`).
        floored: every method is at the floor of these.
        others: in other units.
    """

    tasks: list[str]
    floored: list[str]
    others: list[str]


def mean_tasks(scores: Mapping[Key, Scores], tasks: Sequence[str]) -> Means:
    """What the mean over tasks is over."""
    measured = measured_tasks(scores, tasks)
    floored = [task for task in measured if all(_at_floor(one) for key, one in scores.items() if key.task == task)]
    if len(floored) == len(measured):
        floored = []
    kept = [task for task in measured if task not in floored]
    tasks, others = averaged(kept, {key.task: one for key, one in scores.items()})
    return Means(tasks, floored, others)


def _at_floor(one: Scores) -> bool:
    """Nothing right, or one answer to every item; likelihoods have no floor."""
    nothing = one.unit == "fraction" and one.higher_is_better and one.values.size > 0 and not one.values.any()
    return nothing or (bool(one.constant) and one.metric not in DERIVED)


def panel_methods(groups: Mapping[Key, list[Record]], model: str, track: str, options: Options) -> list[str]:
    """Display names of a panel's rows: base, then the track's methods. A panel needs one of its own track.

    Beside a panel of frozen experts, where they stand, that of trained experts has no other reference than base.
    Methods that are told the task at test time are the panel `oracle`, whatever their track.
    """
    tracks: dict[str, Track | str] = {}
    names: dict[str, str] = {}
    for key, group in groups.items():
        if key.model == model:
            told = any(record.uses_task_identity for record in group)
            tracks[key.method] = ORACLE if told else tracks.get(key.method, group[0].track)
            names.setdefault(key.method, group[0].spec.method_name)
    for method, its in options.expected.items():
        names.setdefault(method, method.split("[")[0])
        tracks.setdefault(method, ORACLE if names[method] == "lora" else its)
    ranks = {name: rank for rank, name in enumerate(options.order)}
    appearance = {method: rank for rank, method in enumerate(tracks)}
    own = [method for method, its in tracks.items() if its == track]
    references = [method for method, its in tracks.items() if its == "reference"]
    if not own and (track != "compose" or {"joint"} & set(tracks.values()) or not references):
        return []
    if track == ORACLE:
        references = []
    elif track == "joint" and "compose" in tracks.values():
        references = [method for method in references if names[method] == "base"]

    def place(method: str) -> tuple[int, int]:
        return ranks.get(names[method], len(ranks)), appearance[method]

    return sorted(references, key=lambda m: (names[m] != "base", *place(m))) + sorted(own, key=place)


def _columns(
    tasks: Sequence[str],
    means: Means,
    scores: Mapping[Key, Scores],
    options: Options,
    builders: Sequence[PanelBuilder],
    *,
    timed: bool,
) -> tuple[Column, ...]:
    columns = []
    for task in tasks:
        found = [one for key, one in scores.items() if key.task == task]
        unit = display_unit(found[0].unit)[0] if found else "%"
        sizes = sorted({one.values.shape[1] for one in found})
        detail = "" if not sizes else f"n = {sizes[0]:,}" if len(sizes) == 1 else f"n = {sizes[0]:,}–{sizes[-1]:,}"
        columns.append(Column(task, task, unit, found[0].higher_is_better if found else True, detail))
    if len(tasks) > 1 and options.mean:
        first = next((column for column in columns if column.key in means.tasks), Column(MEAN, "mean", "%", True))
        columns.append(Column(MEAN, "mean", first.unit, first.higher_is_better, mean=True, of=tuple(means.tasks)))
    asked = notes.distinct(b.question.against for b in builders if b.tested and b.question.against and _judged(b))
    if asked:
        columns.append(Column(VERDICT, f"against {asked[0]}" if len(asked) == 1 else "verdict", "text", None))
    if options.cost:
        columns.append(Column(PARAMETERS, "trained parameters", "count", None, cost=True))
        if timed:
            columns.append(Column(TRAINING, "fit", "s", None, cost=True))
            columns.append(Column(EVALUATION, "evaluation", "s", None, cost=True))
    return tuple(columns)


def _judged(builder: PanelBuilder) -> bool:
    """Whether a column of verdicts says anything: where nothing can be decided, a note says so once."""
    decisive = any(test.decisive for test in builder.tests.tests.values())
    return decisive and any(builder.verdict(method).text for method in builder.methods)


class Tested(NamedTuple):
    """Tests of a panel, with the scores by task and method that they are of."""

    key: str
    title: str
    tests: Family
    columns: Mapping[str, Mapping[str, Scores]]
    means: Means


def families(
    records: Sequence[Record], items: Items, methods: Sequence[str] | None = None, options: Options | None = None
) -> list[Tested]:
    """The tests of each panel.

    Args:
        methods: display names, tested together whatever their track; by default those of each track by themselves,
            and none that is told the task at test time or is a control of another.
    """
    options = options or Options()
    groups, scores = grouped(records), gather(records, items, options.metric)
    found: list[Tested] = []
    for model in notes.distinct(key.model for key in scores):
        chosen = [("", "", list(dict.fromkeys(methods)))] if methods is not None else []
        if methods is None:
            tracks = [track for track in PANEL_TITLES if track != ORACLE]
            chosen = [(f"/{t}", f": {PANEL_TITLES[t]}", panel_methods(groups, model, t, options)) for t in tracks]
            chosen = [(k, t, [m for m in own if controls.kind(groups, model, m) is None]) for k, t, own in chosen]
        for key, title, names in chosen:
            tasks = [task for task in notes.distinct(k.task for k in scores) if any(k.model == model for k in scores)]
            columns = {
                task: {m: scores[Key(model, m, task)] for m in names if Key(model, m, task) in scores} for task in tasks
            }
            columns = {task: column for task, column in columns.items() if column}
            # Of all rows, as the table has it: methods chosen beside each other do not change what their mean is over.
            means = mean_tasks(scores, list(columns))
            tests = family(columns, means.tasks, question(groups, model, names, options))
            if tests.tests:
                found.append(Tested(f"{model}{key}", f"{model}{title}", tests, columns, means))
    return found


__all__ = [
    "EVALUATION", "MEAN", "ORACLE", "PANEL_TITLES", "PARAMETERS", "TRAINING", "VERDICT", "Means", "Options",
    "Tested", "comparison", "families", "mean_tasks", "measured_tasks", "panel_methods", "sentences_on_means",
]  # fmt: skip
