"""The fit of one composed model: a method trained on its pool, at one learning rate or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from harness.checkpoints import Checkpoint
from harness.training.cutting import cuttable
from harness.training.packing import packable
from harness.training.session import EngineSession, TrainingData
from harness.training.tuning import trial_scales, tuned_fit

if TYPE_CHECKING:
    from harness.models import BaseModel
    from harness.planning.plan import Cell, Plan
    from methods.base import Composed, Expert


def fitted(
    plan: Plan,
    data: TrainingData,
    base: BaseModel,
    cell: Cell,
    experts: Sequence[Expert],
    on_step: Callable[[int, int], None],
    kept: Checkpoint,
) -> tuple[Composed, dict[str, Any]]:
    """Install a cell's method on its pool and fit it; where memory does not suffice, in micro-batches of half as many
    rows, and so on, as long as that leaves every gradient the same. What `kept` holds of an earlier process is not done
    again.

    Returns:
        The composed model, installed, and what the fit was: `trials`, `tokens`, `log`, `phases`, `notes`.
    """
    method, config = cell.method.method, plan.config
    sections = {"router": config.routers, "expert": config.experts}
    asked = max(sections[budget].micro_batch_size for budget in ("router", *method.budgets()))
    same = True
    # Asked before anything is installed: a routed model has its own logits on packed rows where its base has.
    packs = method.has_learning_rate() and packable(base)

    def tried(most: int) -> tuple[Composed, dict[str, Any]]:
        nonlocal same
        composed = method.install(base.model, experts, seed=cell.seed)
        same = cuttable(composed)
        try:
            return composed, _fit(plan, data, base, cell, composed, on_step, most, kept, packs)
        except BaseException:
            composed.uninstall()
            raise

    (composed, meta), size, asked = kept.in_less_memory(tried, asked, may=lambda: same)
    short = f"{cell.spec.method}: fitted in micro-batches of at most {size}, memory was short."
    return composed, meta | {"notes": [short] if size < asked else []}


def _fit(
    plan: Plan,
    data: TrainingData,
    base: BaseModel,
    cell: Cell,
    composed: Composed,
    on_step: Callable[[int, int], None],
    most: int,
    kept: Checkpoint,
    packs: bool,
) -> dict[str, Any]:
    """Fit an installed method in micro-batches of at most `most` rows, packed where the base `packs` and it does."""
    method = cell.method.method
    task = cell.task.bound.name if method.per_task() else None

    scales = trial_scales(plan.config, method)

    def fresh(scale: float) -> EngineSession:
        before, in_all = (scales.index(scale), len(scales)) if scales else (0, 1)

        def step(done: int, of: int) -> None:
            on_step(before * of + done, in_all * of)

        given: dict[str, Any] = {"on_step": step, "task": task, "most": most, "kept": kept, "packs": packs}
        return EngineSession(plan, data, base, seed=cell.seed, lr_scale=scale, **given)

    trials: list[dict[str, Any]] = []
    if scales:
        session, trials = tuned_fit(method, composed, scales, fresh)
    else:
        session = fresh(1.0)
        method.fit(composed, session)
    return {"trials": trials, "tokens": session.tokens, "log": session.log, "phases": session.phases}
