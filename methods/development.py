"""Choices on development rows: rows that no expert or router is trained on and no table is computed from."""

from __future__ import annotations

from pydantic import Field, PositiveInt

from methods.base import Composed, MethodConfig, Session


class DevConfig(MethodConfig):
    """Of methods that choose something on development rows."""

    dev_rows: PositiveInt = Field(default=16, description="Development rows of each task that a choice is made on.")


def dev_loss(composed: Composed, session: Session, rows: int) -> float:
    """Mean over tasks of the answer tokens' mean cross-entropy in nats, in eval mode, on each task's first `rows` rows.

    The tasks are those of the pool's experts, or the one that is fitted for.
    """
    training = composed.model.training
    composed.model.eval()
    try:
        tasks = session.dev_tasks() if session.task is None else (session.task,)
        return sum(session.loss(composed, f"dev:{task}", rows) for task in tasks) / len(tasks)
    finally:
        composed.model.train(training)
