"""Learning rates chosen on the dev part: the same number of trials, data and steps for every method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from results.ground.errors import NotFinite

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.planning.sections import RunConfig
    from harness.training.session import EngineSession
    from methods.base import Composed, Method

DEV_ROWS = 64
"""Dev rows a trial is judged on, tasks in turn."""


def trial_scales(config: RunConfig, method: Method) -> tuple[float, ...]:
    """Factors on learning rates that a method is tried with: the same for all that have one.

    A method whose fit has no learning rate gets the one trial there is; without tuning, and where nothing is fitted,
    there are none.
    """
    if not config.tune or not method.trains():
        return ()
    return config.routers.tuning_scales if method.has_learning_rate() else (1.0,)


def _dev_loss(session: EngineSession, composed: Composed, _: object) -> float:
    return session.dev_loss(composed, DEV_ROWS)


def tuned_fit(
    method: Method, composed: Composed, scales: Sequence[float], session: Callable[[float], EngineSession]
) -> tuple[EngineSession, list[dict[str, Any]]]:
    """Fit once for each learning-rate scale and keep the state with the lowest dev loss.

    Args:
        method: the method being fitted.
        composed: its composed model; left in the best trial's state.
        scales: factors on every learning rate of the method's phases; one trial each.
        session: makes a fresh session with a given scale.

    Returns:
        The best trial's session, and all trials: scale, dev cross-entropy (`EngineSession.dev_loss`), tokens trained
        on. One that did not stay finite is never kept: its loss is None, and `error` says why.

    Raises:
        NotFinite: no trial stayed finite.
    """
    start = composed.state()
    trials: list[dict[str, Any]] = []
    best: tuple[float, dict[str, Any], EngineSession] | None = None
    for scale in scales:
        composed.load_state(start)
        current = session(scale)
        try:
            method.fit(composed, current)
            loss = current.kept.run("dev loss", partial(_dev_loss, current, composed))
            if not math.isfinite(loss):
                raise NotFinite("The dev loss is not finite: lower the learning rates.")
        except NotFinite as error:
            trials.append({"scale": scale, "dev_loss": None, "tokens": current.tokens, "error": str(error)})
            continue
        trials.append({"scale": scale, "dev_loss": loss, "tokens": current.tokens})
        if best is None or loss < best[0]:
            best = loss, composed.state(), current
    if best is None:
        if not trials:
            raise ValueError("no learning-rate scales to try")
        raise NotFinite(f"None of {len(trials)} trials ended with finite numbers; the last: {trials[-1]['error']}")
    composed.load_state(best[1])
    return best[2], trials
