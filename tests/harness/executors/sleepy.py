"""The mean of all experts after a sleep; `HARNESS_SLEEPS` names a file that is told who slept when."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field
from torch import nn

from methods.base import MethodConfig
from methods.routing import Composed, Expert
from methods.uniform import Uniform


class SleepyConfig(MethodConfig):
    """How long."""

    seconds: float = Field(default=1.0, description="Of sleep.")


class Sleepy(Uniform):
    """`uniform`, later."""

    Config: ClassVar[type[MethodConfig]] = SleepyConfig
    config: SleepyConfig

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> Composed:
        """See `Method.install`."""
        began = time.time()
        time.sleep(self.config.seconds)
        if "HARNESS_SLEEPS" in os.environ:
            with Path(os.environ["HARNESS_SLEEPS"]).open("a") as log:
                log.write(f"{_node()} {began} {time.time()}\n")
        return super().install(model, experts, seed=seed)


def _node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id()) if ray.is_initialized() else "here"
