"""Cells computed a second time, apart from everything that is stored of them but their experts, and compared."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from results.ground.errors import HarnessError
from results.schema import Item, Record
from results.stages import EXPERT, Stages
from results.store import RunFolder

if TYPE_CHECKING:
    from harness.engine import Engine
    from harness.planning.plan import Cell
    from harness.runs import Run

TOLERANCE = 1e-5
"""Relative (below one: absolute) difference of two numbers that count as equal: on one machine they are equal to the
bit, and another one sums in another order."""
ROUNDING = {"nats": (0.5, 0.05), "bits/byte": (0.1, 0.01)}
"""By how much another machine may put a choice's likelihood, or a reference answer's bits per byte: at most, and in the
mean over a cell."""


@dataclass(frozen=True)
class Again:
    """What computing cells again showed.

    Attributes:
        cells: their keys, in plan order.
        eligible: how many there were to choose from.
        differences: sentences; empty when all is equal, or as near as another machine's rounding leaves it.
        rounded: sentences on the cells of other machines that are not equal but that near.
        elsewhere: what their records say of the machine, where that is not this one.
    """

    cells: tuple[str, ...]
    eligible: int
    differences: tuple[str, ...]
    rounded: tuple[str, ...]
    elsewhere: tuple[str, ...]


def again(run: Run, n: int, seed: int) -> Again:
    """Compute up to `n` finished cells of a run again and compare scores and every item's outcome.

    Fits, outputs and scores go to a store of their own that is removed afterwards, so that nothing is believed that is
    being verified. Experts are taken from the store: the cells are chosen by `seed` among those whose experts it holds.

    Raises:
        HarnessError: there is no such cell, or a judge or sandbox that its task needs is not at hand.
    """
    places = _eligible(run)
    if not places:
        raise HarnessError(
            f"No cell of {run.path} can be computed again: none is finished whose experts are stored and whose "
            "versions and data are those of now."
        )
    chosen = sorted(random.Random(seed).sample(range(len(places)), min(n, len(places))))
    differences: list[str] = []
    rounded: list[str] = []
    elsewhere: dict[str, None] = {}
    with tempfile.TemporaryDirectory(prefix="harness-verify-") as scratch:
        records = _computed(run, [places[index] for index in chosen], Path(scratch))
        for index in chosen:
            stored = run.folder.record(places[index][1].key)
            assert stored is not None
            record, items = records[stored.cell]
            name = f"{stored.cell} ({stored.spec.method} on {stored.spec.task}), computed again"
            before = run.folder.items(stored.cell)
            found = differing(stored, before, record, items)
            if stored.environment.hardware != record.environment.hardware:
                elsewhere[stored.environment.hardware] = None
                if found and (apart := rounding(places[index][1], stored, before, items)):
                    rounded.append(f"{name}: {_apart(before, items, apart)}.")
                    continue
            differences += [f"{name}: {sentence}" for sentence in found]
    cells = tuple(places[index][1].key for index in chosen)
    return Again(cells, len(places), tuple(differences), tuple(rounded), tuple(elsewhere))


def _eligible(run: Run) -> list[tuple[Engine, Cell]]:
    """Finished cells that are planned equally today and whose experts are stored, or come from outside."""
    found: dict[str, tuple[Engine, Cell]] = {}
    for engine in run.engines:
        for cell in engine.plan.cells:
            if cell.refusal is None and run.folder.finished(cell.key) and _has_experts(run.stages, cell):
                found.setdefault(cell.key, (engine, cell))
    return list(found.values())


def _has_experts(stages: Stages, cell: Cell) -> bool:
    return all(one.path is not None or stages.load(EXPERT, one.key) is not None for one in cell.pool)


def _computed(run: Run, places: Sequence[tuple[Engine, Cell]], scratch: Path) -> dict[str, tuple[Record, list[Item]]]:
    """Records and items of cells that were computed in a store and a folder below `scratch`."""
    from harness.engine import Engine
    from harness.executors import local
    from harness.models import LoadedModels
    from harness.planning import graph
    from harness.planning.choices import ask_scoring
    from harness.progress import Progress

    stages = Stages(scratch / "stages")
    for expert in (expert for _, cell in places for expert in cell.pool if expert.path is None):
        link = stages.path(EXPERT, expert.key)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(run.stages.path(EXPERT, expert.key).absolute(), target_is_directory=True)
    for bound in {id(cell.task.bound): cell.task.bound for _, cell in places}.values():
        ask_scoring(bound)
    folder = RunFolder.create(scratch / "run", run.folder.info)
    models = LoadedModels()
    twins = [
        Engine(engine.plan, stages, folder, engine.device, models, run.arguments, only=own)
        for engine in run.engines
        if (own := {cell.key for one, cell in places if one is engine})
    ]
    left = graph.units((twin.backlog, twin.facts.seconds) for twin in twins)
    progress = Progress(sum(unit.seconds for unit in left))
    with progress.shown():
        local(twins, progress)
    keys = [cell.key for _, cell in places]
    return {key: (_record(folder, key), folder.items(key)) for key in keys}


def _record(folder: RunFolder, key: str) -> Record:
    record = folder.record(key)
    if record is None:
        raise RuntimeError(f"the cell {key} was not computed")
    return record


def differing(stored: Record, items: Sequence[Item], record: Record, again: Sequence[Item]) -> list[str]:
    """What two computations of one cell say differently, in sentences.

    Compared are the status, every metric, and each item's metrics, likelihoods and prediction; predictions only where
    the stored run keeps texts.
    """
    if record.status != "done":
        return [f"{record.status}: {record.error}"]
    found = [
        f"{name} is {_shown(record, name)} and {_shown(stored, name)} is stored."
        for name in dict.fromkeys([*stored.metrics, *record.metrics])
        if not _equal(_value(stored, name), _value(record, name))
    ]
    if [item.id for item in items] != [item.id for item in again]:
        return [*found, f"it has {len(again)} items and {len(items)} are stored, or in another order."]
    texts = any(item.prompt for item in items)
    other = [
        one.id
        for one, two in zip(items, again, strict=True)
        if not _same(one, two) or len(one.outputs) != len(two.outputs) or (texts and one.prediction != two.prediction)
    ]
    if other:
        found.append(f"{len(other)} of {len(items)} items have another outcome, the first is {other[0]}.")
    apart = [
        (one.id, abs(float(a[0]) - float(b[0])))
        for one, two in zip(items, again, strict=True)
        if _numeric(one) and _numeric(two)
        for a, b in zip(one.outputs, two.outputs, strict=False)  # of unequal length: said above
        if not _equal(float(a[0]), float(b[0]))
    ]
    if apart:
        most = max(nats for _, nats in apart)
        moved = len({name for name, _ in apart})
        found.append(f"{moved} of {len(items)} items have other likelihoods, by up to {most:.2g} nats.")
    return found


def _numeric(item: Item) -> bool:
    """Whether its outputs are likelihoods, and not texts."""
    return not any(isinstance(output, str) for output in item.outputs)


def rounding(
    cell: Cell, stored: Record, items: Sequence[Item], again: Sequence[Item]
) -> list[tuple[str, float, float]]:
    """How far two machines' numbers for the answers of a cell are apart: unit, at most, and in the mean.

    Empty if that is more than `ROUNDING`, if the items are others or have generated texts, or if the stored outcomes do
    not follow from the likelihoods stored beside them: then something else than rounding differs.
    """
    if [item.id for item in items] != [item.id for item in again]:
        return []
    pairs: dict[str, list[tuple[float, float]]] = {unit: [] for unit in ROUNDING}
    for one, other in zip(items, again, strict=True):
        if len(one.outputs) != len(other.outputs) or not (_numeric(one) and _numeric(other)):
            return []
        pairs["nats"] += [(float(a[0]), float(b[0])) for a, b in zip(one.outputs, other.outputs, strict=True)]
        bits, bits_again = one.metrics.get("bits_per_byte"), other.metrics.get("bits_per_byte")
        if bits is not None and bits_again is not None:
            pairs["bits/byte"].append((bits, bits_again))
    found = [
        (unit, max(apart), fmean(apart))
        for unit, both in pairs.items()
        if (apart := [abs(one - two) for one, two in both])
    ]
    near = all(most <= ROUNDING[unit][0] and mean <= ROUNDING[unit][1] for unit, most, mean in found)
    return found if near and _follows(cell, stored, items) else []


def _apart(items: Sequence[Item], again: Sequence[Item], found: Sequence[tuple[str, float, float]]) -> str:
    """How many items turned, and how far the numbers behind them are apart."""

    def outcomes(item: Item) -> dict[str, float | None]:
        return {name: value for name, value in item.metrics.items() if name != "bits_per_byte"}

    turned = sum(outcomes(one) != outcomes(two) for one, two in zip(items, again, strict=True))
    how_far = ", ".join(f"{mean:.2g} {unit} apart in the mean, {most:.2g} at most" for unit, most, mean in found)
    return f"{turned} of {len(items)} items have another outcome, {how_far}"


def _follows(cell: Cell, stored: Record, items: Sequence[Item]) -> bool:
    """Whether stored outcomes are what the outputs stored beside them score, and stored scores what they add up to."""
    from harness.records import outcomes

    metrics, scored = outcomes(cell, [{"outputs": item.outputs, "gold_loglikelihood": None} for item in items])
    values = {name: metric.value for name, metric in metrics.items()}
    bits = [value for item in items if (value := item.metrics.get("bits_per_byte")) is not None]
    if bits:
        values["bits_per_byte"] = fmean(bits)
    if values.keys() != stored.metrics.keys():
        return False
    return all(_equal(value, _value(stored, name)) for name, value in values.items()) and all(
        _equal(value, item.metrics.get(name))
        for item, one in zip(items, scored, strict=True)
        for name, value in one.metrics.items()
    )


def _same(one: Item, other: Item) -> bool:
    names = dict.fromkeys([*one.metrics, *other.metrics])
    return all(_equal(one.metrics.get(name), other.metrics.get(name)) for name in names)


def _value(record: Record, name: str) -> float | None:
    return record.metrics[name].value if name in record.metrics else None


def _shown(record: Record, name: str) -> str:
    value = _value(record, name)
    return "nothing" if value is None else f"{value:.6g}"


def _equal(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return one == other or math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
