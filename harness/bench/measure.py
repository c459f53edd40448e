"""Timing two ways of doing the same work, by turns."""

from __future__ import annotations

import gc
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import BaseModel, Field, computed_field
from torch import Tensor, nn

from harness.provenance import hardware

T = TypeVar("T")


class Options(BaseModel):
    """What the command line lets a user choose about a benchmark."""

    model: str = "smollm2-135m"
    data: str = "bundled"
    items: int | None = Field(default=None, gt=0)
    repetitions: int = Field(default=3, gt=0)
    peer_batches: tuple[int, ...] = (1, 4, 16)
    """Batch sizes tried for the other side; its fastest one is measured."""
    run: str | None = None
    """A finished run, for what is timed on one."""
    clock: Literal["wall", "cpu"] = "wall"
    """`cpu` counts processor seconds, which other processes on a busy machine do not lengthen."""
    only: str = ""
    """Rows whose names hold this text."""
    preset: str = "quick"
    """The run whose overhead is measured."""
    plot: Path | None = None
    """Where a benchmark with a plot draws it."""
    device: str = "cpu"
    """Where both sides compute."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of both sides' weights and products."""
    random_weights: bool = False
    """Draw the model's weights instead of reading them: its configuration is enough, and speed does not depend on
    them."""

    def wants(self, name: str) -> bool:
        """Whether the row of that name is asked for."""
        return self.only in name


class Row(BaseModel):
    """One line of a benchmark's table.

    Attributes:
        name: what is measured.
        setting: sizes and batch sizes of both sides, in words.
        peer: the other side.
        seconds: of every repetition, ours.
        peer_seconds: of every repetition, theirs.
        limit: the ratio, if time were proportional to the multiply-adds of each side; None where arithmetic is not
            what takes the time.
        target: the ratio aimed at (`speed-up`: at least; `overhead`: at most), or the longest time in seconds; None
            where there is none.
        kind: how the two sides are compared: `speed-up` is their median over ours, `overhead` ours over theirs, and
            `seconds` looks at ours alone.
        agreement: how far the results of both sides are equal, in words.
        axis: what varies over the rows of a plot; empty otherwise.
        value: where on that axis this row is.
        memory: GiB that our side took at most, where it is a process of its own.
    """

    name: str
    setting: str
    peer: str
    seconds: list[float]
    peer_seconds: list[float]
    limit: float | None = None
    target: float | None = None
    kind: Literal["speed-up", "overhead", "seconds"] = "speed-up"
    agreement: str = ""
    axis: str = ""
    value: int | None = None
    memory: float | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def median(self) -> float:
        """Median seconds, ours."""
        return statistics.median(self.seconds)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def peer_median(self) -> float:
        """Median seconds, theirs."""
        return statistics.median(self.peer_seconds)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def ratio(self) -> float:
        """How many times faster we are, or under `overhead` how many times slower."""
        return self.median / self.peer_median if self.kind == "overhead" else self.peer_median / self.median

    @computed_field  # type: ignore[prop-decorator]
    @property
    def reached(self) -> bool | None:
        """Whether the target was; None without one."""
        if self.target is None:
            return None
        if self.kind == "seconds":
            return self.median <= self.target
        return self.ratio <= self.target if self.kind == "overhead" else self.ratio >= self.target


def processor_seconds() -> float:
    """Processor time so far, of this process, all its threads, and finished child processes."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": processor_seconds}


def wait_for(device: str) -> None:
    """Return once a device has done all that it was given; a processor has when it returns."""
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize(torch.device(device))


def timed(work: Callable[[], T], clock: str = "wall", device: str = "cpu") -> tuple[float, T]:
    """Seconds and the result; garbage of earlier work is collected first.

    Args:
        work: is timed until the device has done it.
        clock: of `CLOCKS`.
        device: where it computes.
    """
    gc.collect()
    wait_for(device)
    start = CLOCKS[clock]()
    result = work()
    wait_for(device)
    return CLOCKS[clock]() - start, result


def by_turns(ours: Callable[[], Any], theirs: Callable[[], Any], options: Options) -> tuple[list[float], list[float]]:
    """Seconds of both sides; who goes first changes with every repetition, so that drift hits both alike."""
    sides: tuple[list[float], list[float]] = ([], [])
    for repetition in range(options.repetitions):
        for side in (0, 1) if repetition % 2 == 0 else (1, 0):
            sides[side].append(timed((ours, theirs)[side], options.clock, options.device)[0])
    return sides


def multiply_adds(work: Callable[[], Any]) -> float:
    """Multiply-adds of all matrix products and attention in `work`, its backward passes included."""
    from torch.utils.flop_counter import FlopCounterMode

    def in_place(_out: tuple[int, ...], a: tuple[int, int], b: tuple[int, int], **_kwargs: object) -> int:
        return 2 * a[0] * a[1] * b[1]

    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: in_place}) as counter:
        work()
    return counter.get_total_flops() / 2


class WorkCounter:
    """Counts the multiply-adds of a model's linear layers, its head included, over all forward passes.

    Attention between tokens, norms and embeddings are left out. Counting costs microseconds a layer.
    """

    def __init__(self, model: nn.Module) -> None:
        self.total = 0
        linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
        self._handles = [linear.register_forward_hook(self._count) for linear in linears]

    def _count(self, linear: nn.Module, args: tuple[Tensor, ...], _output: object) -> None:
        assert isinstance(linear, nn.Linear)
        self.total += args[0].numel() * linear.out_features

    def take(self) -> int:
        """What was counted since the last call."""
        total, self.total = self.total, 0
        return total

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()


def machine(device: str) -> dict[str, str | int | float]:
    """What the figures were measured on."""
    return {
        "hardware": hardware(device),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "float32 products": torch.get_float32_matmul_precision(),
    }
