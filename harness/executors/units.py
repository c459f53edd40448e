"""Single units of a run, computed in one process in whatever order they are asked for."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from harness.executors.named import Named
from harness.planning.graph import SCORE
from harness.progress import Progress
from results.stages import COMPOSED, EXPERT, OUTPUTS, Wait

if TYPE_CHECKING:
    from harness.engine import Engine
    from harness.evaluation.cells import Evaluator
    from harness.planning.plan import Cell, ExpertPlan

VISIBLE = 90.0
"""Seconds until what another machine has written is given up: network file systems remember for a minute that a name
was not there."""

DONE, FAILED, WAITS, STOPPED = "done", "failed", "waits", "stopped"


class Outcome(NamedTuple):
    """What became of a unit.

    Attributes:
        state: `DONE`; `FAILED`, for the reason `text`; `WAITS`, another process is at `text`; `STOPPED`, nothing more
            can be computed here for the reason `text` (a full disk).
        text: see there.
        said: lines for standard error.
    """

    state: str
    text: str = ""
    said: str = ""


class Units:
    """Computes units by kind and key. The base model stays loaded, and the last composed model installed, until a unit
    needs another one.

    Args:
        engines: of the run, which share one base model in memory.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._named = Named(engines)
        self._held: tuple[Engine, tuple[str, bool, int], Evaluator] | None = None
        self._model = ExitStack()
        self._silent = Progress(1.0, io.StringIO())

    def compute(self, kind: str, key: str, needs: Sequence[tuple[str, str]] = (), why: str = "") -> Outcome:
        """Compute one unit; nothing that goes wrong in it is raised.

        Args:
            kind: of the unit (`harness.planning.graph.Unit`).
            key: likewise.
            needs: units before it that were computed.
            why: of a score, the reason why what it needs could not be computed, if so.
        """
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            try:
                outcome = self._outcome(kind, key, needs, why)
            except Exception as error:  # what `Engine.failure` raises: no other unit would end better
                outcome = Outcome(STOPPED, str(error))
        return outcome._replace(said=said.getvalue())

    def release(self) -> None:
        """Take the composed model off the base again, which is proved clean; one that is not is loaded anew."""
        from harness.probe import BaseChangedError

        held, self._held = self._held, None
        try:
            self._model.close()
        except BaseChangedError as error:
            assert held is not None
            held[0].failure("taking a model off", error)
            held[0].forget()

    def _outcome(self, kind: str, key: str, needs: Sequence[tuple[str, str]], why: str) -> Outcome:
        ways = {EXPERT: self._expert, COMPOSED: self._fit, OUTPUTS: self._evaluate}
        engine, what = self._named.experts[key] if kind == EXPERT else self._named.cells[kind, key]
        try:
            for need in needs:
                see(partial(engine.stages.load, *need), "/".join(need))
            if kind == SCORE:
                engine.settle(what, {key: why} if why else {})  # type: ignore[arg-type]
                return Outcome(DONE)
            wait = ways[kind](engine, what)  # type: ignore[operator]
        except Exception as error:
            self.release()
            return Outcome(FAILED, engine.failure(f"{kind} {key}", error))
        if wait is not None:
            return Outcome(WAITS, f"{wait.name}: {engine.stages.claimant(wait.kind, wait.key)} computes it")
        failed = engine.failed.pop(key, None)
        return Outcome(DONE) if failed is None else Outcome(FAILED, failed)

    def _expert(self, engine: Engine, expert: ExpertPlan) -> Wait | None:
        self.release()
        return engine.train_expert(expert, self._silent)

    def _fit(self, engine: Engine, cell: Cell) -> Wait | None:
        if cell.origin is not None:
            self.release()
            return engine.fit_origin(cell, self._silent)
        with engine.stages.claim(COMPOSED, cell.compose_key) as mine:
            if not mine:
                return Wait(COMPOSED, cell.compose_key, f"the fit of {cell.spec.method}")
            if engine.work.lacks_fit(cell):
                self.release()
                self._installed(engine, cell)
        return None

    def _evaluate(self, engine: Engine, cell: Cell) -> Wait | None:
        with engine.stages.claim(OUTPUTS, cell.outputs_key) as mine:
            if not mine:
                return Wait(OUTPUTS, cell.outputs_key, f"{cell.spec.method} on {cell.spec.task}")
            if engine.work.lacks_outputs(cell):
                engine.evaluate(cell, self._installed(engine, cell), self._silent)
        return None

    def _installed(self, engine: Engine, cell: Cell) -> Evaluator:
        """What evaluates cells on the composed model of one of them."""
        from harness.evaluation.cells import Evaluator

        if self._held is None or self._held[:2] != (engine, cell.group):
            self.release()
            composed = self._model.enter_context(engine.composed(cell, self._silent))
            evaluator = Evaluator(engine.base, composed, engine.plan.config.eval.batch_tokens, cell.seed)
            self._held = engine, cell.group, evaluator
        return self._held[2]


def see(look: Callable[[], object], what: str) -> None:
    """Wait until what another machine has written is seen on this one.

    Args:
        look: gives something once it is.
        what: in words.

    Raises:
        RuntimeError: it is not, after `VISIBLE` seconds.
    """
    end = time.monotonic() + VISIBLE
    while not look():
        if time.monotonic() > end:
            raise RuntimeError(f"{what} was written by another machine and is not seen on this one")
        time.sleep(0.5)
