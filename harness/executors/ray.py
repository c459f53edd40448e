"""The units of a run on a Ray cluster: one long-lived worker a GPU, or a share of cores, each at one unit at a time."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.executors.named import Named
from harness.executors.nodes import Handshake, Node, alive, handed, places, share
from harness.executors.ready import Name, Ready
from harness.executors.units import DONE, FAILED, STOPPED, Outcome, see
from harness.executors.worker import Work, Worker, cells_of
from harness.planning import graph
from harness.planning.graph import SCORE, Unit
from results.ground.errors import HarnessError

if TYPE_CHECKING:
    from harness.engine import Engine
    from harness.progress import Progress

TRIES = 3
"""How often a unit is begun whose worker is lost each time; its own exceptions are records at once."""
_ANSWER = 10.0
"""Seconds for a cluster's address to answer."""
LOOK = 1.0
"""Seconds between two looks at units that another run computes."""
PATIENCE = 900.0
"""Seconds without any worker until the run ends: a cloud takes minutes to add a node."""


def on_ray(engines: Sequence[Engine], progress: Progress, workers: int | None = None) -> None:
    """Compute what some engines lack on the cluster that `RAY_ADDRESS` names or that this machine belongs to, else on
    this machine alone.

    Args:
        engines: of one run, which have their folder and store in common.
        progress: the display.
        workers: how many; default as many as the cluster has room for now.

    Raises:
        HarnessError: Ray is not installed, a node does not share the run's folders or has another harness, there is no
            room for a worker, or nothing more can be written.
    """
    try:
        import ray as cluster
    except ImportError as error:
        raise HarnessError("The ray executor needs Ray: pip install '.[ray]' in the harness's checkout.") from error
    units = graph.units((engine.work, engine.facts.seconds) for engine in engines)
    if not units:
        return
    with _connected(cluster):
        crew = _Crew(cluster, engines, progress, units, workers)
        try:
            crew.compute()
        finally:
            crew.dismiss()


@contextmanager
def _connected(cluster: Any) -> Iterator[None]:
    """Joined to a cluster, or with one of this machine alone. Whoever has joined already stays so.

    Raises:
        HarnessError: there is an address, and nobody answers there.
    """
    if cluster.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # of a cluster that is started here; 15 is for strangers' work
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if "PYTHONPATH" in os.environ:
        quiet["runtime_env"] = {"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}}
    heeded = signal.getsignal(signal.SIGTERM)
    address = os.environ.get("RAY_ADDRESS", "")
    try:
        if plain := re.fullmatch(r"([\w.-]+):(\d+)", address):  # Ray itself would try for minutes
            socket.create_connection((plain[1], int(plain[2])), timeout=_ANSWER).close()
        cluster.init(**quiet)
    except (OSError, OverflowError, ValueError) as error:
        raise HarnessError(
            f"No Ray cluster answers at {address or 'the address that Ray has kept'}: start it, or unset RAY_ADDRESS "
            "to use this machine alone."
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, heeded)  # Ray's own would end the process without cleaning up
    try:
        yield
    finally:
        cluster.shutdown()


@dataclass
class _Member:
    """A worker as the run sees it: its actor, its node once that is known, what it holds and what it is at."""

    actor: Any
    node: Node | None = None
    held: tuple[str, ...] = ()
    unit: Unit | None = None
    job: ExitStack = field(default_factory=ExitStack)


class _Crew:
    """Workers and what they are at.

    Args:
        cluster: the module `ray`.
        engines: of the run.
        progress: the display.
        units: that are left.
        workers: how many; None for as many as there is room for.

    Raises (on construction):
        HarnessError: see `on_ray`.
    """

    def __init__(
        self, cluster: Any, engines: Sequence[Engine], progress: Progress, units: Sequence[Unit], workers: int | None
    ) -> None:
        import torch

        self.cluster, self.engines, self.progress = cluster, engines, progress
        self.stages, self.folder = engines[0].stages, engines[0].folder
        self.named = Named(engines)
        self.ready = Ready(units, self.named.kinship)
        nodes = alive(cluster.nodes())
        self.share = share(engines, nodes, torch.get_num_threads())
        self.size = min(len(units), workers or places(self.share, nodes))
        self.running: dict[Any, _Member] = {}
        self.idle: list[_Member] = []
        self.later: list[tuple[float, Unit]] = []
        self.lost: Counter[Name] = Counter()
        self.stillborn = 0
        self.untold: list[Name] = []
        self.waiting: set[Name] = set()
        self.alone = time.monotonic()
        work = self._work()
        stores = [] if self.stages.remote else [Path(work.stages)]  # workers ask a remote one themselves
        self.handshake = Handshake(cluster, [*stores, Path(work.folder)], Path(work.directory))
        self.greeted = self._greet([node for node in nodes if self.share.fits(node)])
        self.hire = partial(
            cluster.remote(Worker).options(**self.share.options()).remote, work, handed(engines, work.stages)
        )

    def _work(self) -> Work:
        return Work(
            configs=tuple(engine.plan.config for engine in self.engines),
            folder=str(self.folder.path.resolve()),
            stages=self.stages.address,
            directory=str(Path.cwd()),
            arguments=tuple(self.engines[0].facts.arguments),
            cells=cells_of([cell.key for cell in engine.plan.cells] for engine in self.engines),
            threads=self.share.cpus,
        )

    def _greet(self, nodes: Sequence[Node]) -> dict[str, Node]:
        refusals = self.handshake.refusals(nodes)
        if refusals:
            raise HarnessError(next(iter(refusals.values())))
        return {node.key: node for node in nodes}

    def compute(self) -> None:
        """Until every unit is done or has failed."""
        for _ in range(self.size):
            self._start()
        while self.ready.open:
            now = time.monotonic()
            for at, unit in [one for one in self.later if one[0] <= now]:
                self.later.remove((at, unit))
                self.ready.again(unit)
            self._assign()
            if self.running:
                done, _ = self.cluster.wait(list(self.running), num_returns=1, timeout=LOOK)
                for ref in done:
                    self._ended(ref)
            else:
                time.sleep(LOOK)
            self._tell()
            self._watch()
        for key in [key for kind, key in self.untold if kind == SCORE]:
            try:
                see(partial(self.folder.record, key), f"The record of the cell {key}")
            except RuntimeError as error:
                raise HarnessError(f"{error}: give the same command again in a minute.") from error
        self._tell()

    def dismiss(self) -> None:
        """End all workers."""
        for member in [*self.running.values(), *self.idle]:
            self.cluster.kill(member.actor, no_restart=True)

    def _start(self) -> None:
        actor = self.hire()
        self.running[actor.start.remote()] = _Member(actor)

    def _assign(self) -> None:
        for member in list(self.idle):
            unit = self.ready.take(member.held)
            if unit is None:
                return
            self.idle.remove(member)
            why = self.ready.why.get(unit.name, "")
            needs = [] if why else [need for need in unit.needs if need[0] != SCORE]
            member.unit = unit
            assert member.node is not None
            if unit.kind != SCORE:
                member.held = self.named.kinship(unit)
            if unit.kind != SCORE and unit.name not in self.waiting:
                member.job.enter_context(self.progress.job(f"{unit.label} on {member.node.name}", unit.seconds))
            self.running[member.actor.compute.remote(unit.kind, unit.key, needs, why)] = member

    def _ended(self, ref: Any) -> None:
        from ray.exceptions import RayError, RayTaskError

        member = self.running.pop(ref)
        try:
            answer = self.cluster.get(ref)
        except RayTaskError as error:
            if member.unit is None:
                raise HarnessError(f"A worker cannot start: {_last(error)}.") from error
            answer = Outcome(FAILED, _last(error))
        except RayError as error:
            self._gone(member, error)
            return
        if member.unit is None:
            self._began(member, *answer)
            return
        unit, member.unit = member.unit, None
        self.idle.append(member)
        self.stillborn = 0
        self._settle(member, unit, answer)

    def _began(self, member: _Member, key: str, refusal: str) -> None:
        """A worker has planned the run: it takes part, unless its node came later and does not share the folders."""
        member.node = next((node for node in alive(self.cluster.nodes()) if node.key == key), None)
        if member.node is None:
            self._gone(member, RuntimeError("its node is gone"))
            return
        if refusal:
            raise HarnessError(f"The node {member.node.name} cannot take part: {refusal}")
        if member.node.key not in self.greeted:  # it came later
            said = self.handshake.refusals([member.node]).get(member.node.key)
            if said:
                self.cluster.kill(member.actor, no_restart=True)
                _say(f"{said} It is left out.")
                return
            self.greeted[member.node.key] = member.node
        self.idle.append(member)

    def _settle(self, member: _Member, unit: Unit, outcome: Outcome) -> None:
        """What a unit's outcome means for the others."""
        assert member.node is not None
        for line in outcome.said.splitlines():
            _say(f"{member.node.name}: {line.removeprefix('harness: ')}")
        if outcome.state == DONE:
            self.ready.done(unit)
            self.untold.append(unit.name)
            member.job.close()
            return
        if outcome.state == STOPPED:
            raise HarnessError(f"The node {member.node.name} cannot go on: {outcome.text}")
        if outcome.state == FAILED:
            self._close(member, RuntimeError(outcome.text))
            self._fail(unit, outcome.text)
            return
        if unit.name not in self.waiting:
            self.waiting.add(unit.name)
            _say(f"Waiting for {outcome.text}.")
        self.progress.done -= unit.seconds
        self._close(member, KeyboardInterrupt())
        self.later.append((time.monotonic() + LOOK, unit))

    def _fail(self, unit: Unit, why: str) -> None:
        """A unit that cannot be computed; of a score the record is written here."""
        self.ready.failed(unit, why)
        if unit.kind == SCORE:
            engine, cell = self.named.cells[unit.name]
            engine.settle(cell, {cell.key: why})

    def _gone(self, member: _Member, error: Exception) -> None:
        """A worker was lost, with its node or alone: what it was at goes to another one, which takes its place."""
        where = member.node.name if member.node is not None else "a node"
        unit = member.unit
        if unit is None:
            self.stillborn += 1
            if self.stillborn >= TRIES:
                raise HarnessError(f"{TRIES} workers in a row were lost before they could begin: {_last(error)}.")
        else:
            self.progress.done -= unit.seconds
            self._close(member, error)
            self.lost[unit.name] += 1
            if self.lost[unit.name] >= TRIES:
                self._fail(unit, f"its worker was lost {TRIES} times, last on {where}: {_last(error)}")
            else:
                _say(f"The worker on {where} was lost while it was at {unit.label}, which goes to another one.")
                self.ready.again(unit)
        self._start()

    def _close(self, member: _Member, error: BaseException) -> None:
        """End the display of what a worker was at; the job raises again what it is told."""
        with suppress(type(error)):
            member.job.__exit__(type(error), error, error.__traceback__)
        member.job = ExitStack()

    def _tell(self) -> None:
        self.untold = [name for name in self.untold if not self.named.tell(*name)]

    def _watch(self) -> None:
        """See that there is somebody to compute what is left.

        Raises:
            HarnessError: there has been nobody for `PATIENCE` seconds.
        """
        if self.idle or any(member.node is not None for member in self.running.values()):
            self.alone = time.monotonic()
        elif not self.running:
            raise HarnessError("No node that is left can take part in the run: mend what is said above and run again.")
        elif time.monotonic() - self.alone > PATIENCE:
            raise HarnessError(
                f"For {PATIENCE / 60:.0f} minutes no node had room for a worker, which takes {self.share.said()}: add "
                "nodes and run it again, which goes on where it stands."
            )


def _last(error: Exception) -> str:
    """The last line of what Ray says, without its end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")[:200]


def _say(sentence: str) -> None:
    sys.stderr.write(f"harness: {sentence}\n")
