"""What the engine costs beside the model: a whole run, and the part of it inside the model."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from harness.bench.measure import CLOCKS, Options, Row, timed


def engine(options: Options) -> Iterator[Row]:
    """A preset from empty stages to its records: all seconds against those of the model's arithmetic."""
    seconds, inside = [], []
    for _ in range(options.repetitions):
        with tempfile.TemporaryDirectory(prefix="harness-engine-") as scratch:
            clock = Stopwatch(CLOCKS[options.clock])
            with watched(clock), patch.dict(os.environ, {"HARNESS_STAGES": f"{scratch}/stages"}):
                spent, _ = timed(lambda scratch=scratch: run(options, Path(scratch)), options.clock)  # type: ignore[misc]
            seconds.append(spent)
            inside.append(clock.total)
    yield Row(
        name="engine overhead",
        setting=f"preset {options.preset}, from empty stages to records and table",
        peer="model compute of the same run",
        seconds=seconds,
        peer_seconds=inside,
        target=1.05,
        kind="overhead",
    )


def run(options: Options, folder: Path) -> None:
    """The preset's run, and its table."""
    from harness.planning.options import RunOptions, configuration
    from harness.planning.variants import Variant
    from harness.runs import Run
    from methods import registry
    from reports import api

    chosen: RunOptions = {"model": options.model, "data": options.data}
    if options.items is not None:
        chosen["limit"] = options.items
    run = Run.start([Variant(configuration(options.preset, chosen))], folder / "run")
    run.compute()
    api.render(run.path, "comparison", ["md"], registry.names())


class Stopwatch:
    """Adds up the seconds inside it; entering it again inside counts once."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.total = 0.0
        self._depth = 0
        self._since = 0.0

    def start(self, *_args: object, **_kwargs: object) -> None:
        """Enter; arguments are ignored, so that it can be a hook."""
        if self._depth == 0:
            self._since = self.clock()
        self._depth += 1

    def stop(self, *_args: object, **_kwargs: object) -> None:
        """Leave."""
        self._depth -= 1
        if self._depth == 0:
            self.total += self.clock() - self._since


@contextmanager
def watched(clock: Stopwatch) -> Iterator[None]:
    """Time the model's arithmetic inside the block: passes of every model that is loaded there, the losses behind them,
    backward passes, the clipping of gradients, and optimiser steps."""
    from harness import models
    from harness.training import loop as training

    load = models.load

    def watched_load(*args: Any, **kwargs: Any) -> Any:
        base = load(*args, **kwargs)
        base.model.register_forward_pre_hook(clock.start)
        base.model.register_forward_hook(clock.stop, always_call=True)
        return base

    def inside(work: Callable[..., Any]) -> Callable[..., Any]:
        def timed_work(*args: Any, **kwargs: Any) -> Any:
            clock.start()
            try:
                return work(*args, **kwargs)
            finally:
                clock.stop()

        return timed_work

    places = (
        (torch.Tensor, "backward"),
        (torch.nn.utils, "clip_grad_norm_"),
        (training, "target_cross_entropy"),
    )
    with ExitStack() as stack:
        stack.enter_context(patch.object(models, "load", watched_load))
        for owner, name in places:
            stack.enter_context(patch.object(owner, name, inside(getattr(owner, name))))
        stack.callback(register_optimizer_step_pre_hook(clock.start).remove)
        stack.callback(register_optimizer_step_post_hook(clock.stop).remove)
        yield
