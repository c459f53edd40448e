"""What is left of a run as units that need one another, and how long some workers would take over them.

An expert comes before the fits that read it, a fit before the evaluations of its model, an evaluation before its
scoring; nothing else waits. A stage that several configurations need is one unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from harness.planning import estimate
from harness.planning.backlog import Backlog
from harness.planning.plan import Cell
from results.ground.errors import HarnessError
from results.stages import COMPOSED, EXPERT, OUTPUTS

SCORE = "score"
"""Kind of the unit that scores one cell: no stage, a record in the run's folder."""
MOST_WORKERS = 1000


@dataclass(frozen=True)
class Unit:
    """Something that one process computes at a time.

    Attributes:
        kind: of the stage that it makes, or `SCORE`.
        key: of that stage, or of the cell.
        label: in words.
        seconds: estimated; none for scoring, which waits for judges and sandboxes that no plan asks.
        tokens: forward, trained and generated.
        needs: units before it, as (kind, key).
    """

    kind: str
    key: str
    label: str
    seconds: float = 0.0
    tokens: float = 0.0
    needs: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> tuple[str, str]:
        """What others need it by."""
        return self.kind, self.key


@dataclass(frozen=True)
class Schedule:
    """How long some workers take over some units.

    Attributes:
        workers: how many.
        makespan: seconds until the last unit ends.
        work: seconds of all units together.
        critical: seconds of the longest chain of units that need one another: no number of workers is faster.
    """

    workers: int
    makespan: float
    work: float
    critical: float

    @property
    def idle(self) -> float:
        """Seconds that workers have nothing to do, all together; sums in two orders differ by a rounding."""
        return max(0.0, self.workers * self.makespan - self.work)


def units(backlogs: Iterable[tuple[Backlog, Callable[[estimate.Work], float]]]) -> list[Unit]:
    """What is left of some plans, each unit after those that it needs.

    Args:
        backlogs: with the estimated seconds of some work there (`Facts.seconds`).
    """
    found: dict[tuple[str, str], Unit] = {}
    for backlog, seconds in backlogs:
        _Left(backlog, seconds, found).add()
    return list(found.values())


class _Left:
    """Adds what one plan is missing to the units that are found already. Each stage is looked for, and each kind of
    work estimated, once."""

    def __init__(
        self, backlog: Backlog, seconds: Callable[[estimate.Work], float], found: dict[tuple[str, str], Unit]
    ) -> None:
        self.backlog = backlog
        self.seconds = seconds
        self.found = found
        self.there: dict[tuple[str, str], bool] = {}
        self.fits: dict[int, estimate.Work] = {}
        self.asked: dict[tuple[int, int], estimate.Work] = {}

    def add(self) -> None:
        for expert in self.backlog.missing_experts():
            work = estimate.expert_work(self.backlog.plan, self.backlog.plan.expert_tasks(expert.name))
            self._unit(EXPERT, expert.key, f"expert {expert.name}", work, ())
        for cell in self.backlog.pending():
            if cell.refusal is None:
                self._cell(cell)

    def _cell(self, cell: Cell) -> None:
        needs: tuple[tuple[str, str], ...] = ()
        if self._lacks(OUTPUTS, cell.outputs_key):
            needs = ((OUTPUTS, cell.outputs_key),)
            if needs[0] not in self.found:
                label = f"{cell.spec.method} on {cell.spec.task}"
                self._unit(*needs[0], label, self._evaluation(cell), self._model(cell))
        self._unit(SCORE, cell.key, f"score {cell.spec.method} on {cell.spec.task}", estimate.Work(), needs)

    def _model(self, cell: Cell) -> tuple[tuple[str, str], ...]:
        """What an evaluation needs: its fit where it has one to make, or the experts that are not there yet."""
        experts = tuple((EXPERT, one.key) for one in cell.pool if (EXPERT, one.key) in self.found)
        if not cell.method.method.trains() or not self._lacks(COMPOSED, cell.compose_key):
            return experts
        fit = COMPOSED, cell.compose_key
        if fit not in self.found:
            method = cell.method.method
            if id(method) not in self.fits:
                self.fits[id(method)] = estimate.fit_work(self.backlog.plan, method)
            self._unit(*fit, f"fit {cell.spec.method}", self.fits[id(method)], experts)
        return (fit,)

    def _evaluation(self, cell: Cell) -> estimate.Work:
        asked = id(cell.task.bound), cell.seed
        if asked not in self.asked:
            self.asked[asked] = estimate.asked_work(cell.task.bound, cell.seed)
        return self.asked[asked].times(cell.method.method.passes(len(cell.pool)))

    def _lacks(self, kind: str, key: str) -> bool:
        if (kind, key) not in self.there:
            self.there[kind, key] = self.backlog.look(kind, key) is not None
        return not self.there[kind, key]

    def _unit(self, kind: str, key: str, label: str, work: estimate.Work, needs: tuple[tuple[str, str], ...]) -> None:
        unit = Unit(kind, key, label, self.seconds(work), work.forward + work.trained + work.generated, needs)
        self.found.setdefault(unit.name, unit)


def check_workers(workers: int) -> int:
    """The number itself.

    Raises:
        HarnessError: there can be no such number of workers.
    """
    if not 1 <= workers <= MOST_WORKERS:
        raise HarnessError(f"--workers takes a number from 1 to {MOST_WORKERS:,}, not {workers}.")
    return workers


def schedule(units: Sequence[Unit], workers: int) -> Schedule:
    """List scheduling: whoever is free takes the ready unit with the longest chain behind it.

    The makespan is at most `work / workers + critical * (1 - 1 / workers)`, less than twice the best possible
    (R. L. Graham, Bounds on multiprocessing timing anomalies, 1969). Equal chains go in the order of `units`.

    Args:
        units: with what they need among them; what is not among them is there already.
        workers: alike, each at one unit at a time.

    Raises:
        HarnessError: units that need one another in a circle, or a number of workers that there cannot be.
    """
    check_workers(workers)
    before, after = links(units)
    lengths = chains(units, before, after)
    waits = [len(needed) for needed in before]
    ready = [(-lengths[at], at) for at, count in enumerate(waits) if not count]
    heapify(ready)
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            at = heappop(ready)[1]
            heappush(running, (now + units[at].seconds, at))
        now, done = heappop(running)
        ended = [done]
        while running and running[0][0] == now:
            ended.append(heappop(running)[1])
        for at in (behind for done in ended for behind in after[done]):
            waits[at] -= 1
            if not waits[at]:
                heappush(ready, (-lengths[at], at))
    return Schedule(workers, now, sum(unit.seconds for unit in units), max(lengths, default=0.0))


def links(units: Sequence[Unit]) -> tuple[list[list[int]], list[list[int]]]:
    """For each unit, the places of those that it needs, and of those that need it."""
    places = {unit.name: at for at, unit in enumerate(units)}
    before = [[places[need] for need in dict.fromkeys(unit.needs) if need in places] for unit in units]
    after: list[list[int]] = [[] for _ in units]
    for at, needed in enumerate(before):
        for need in needed:
            after[need].append(at)
    return before, after


def chains(units: Sequence[Unit], before: list[list[int]], after: list[list[int]]) -> list[float]:
    """Seconds of the longest chain that begins with each unit."""
    left = [len(behind) for behind in after]
    ends = [at for at, count in enumerate(left) if not count]
    chains = [0.0] * len(units)
    for at in ends:  # grows while it is gone through
        chains[at] = units[at].seconds + max((chains[behind] for behind in after[at]), default=0.0)
        for need in before[at]:
            left[need] -= 1
            if not left[need]:
                ends.append(need)
    if len(ends) < len(units):
        raise HarnessError("Units of the run need one another in a circle: nothing can begin.")
    return chains
