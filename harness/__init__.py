"""Compare ways of composing and routing LoRA experts, on real benchmarks, with honest statistics.

    import harness

    run = harness.run(methods=["mixer", "mole"], tasks=["gsm8k", "arc-c"], preset="quick")
    run = harness.open("results/runs/NAME")
    run.records(); run.items("arc-c"); run.compare("mixer", "mole"); run.table(); run.plot("load")
    model = harness.load("my-mixer")

What computes needs torch and loads it when it is asked to compute; importing this package does not.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from harness._sisters import check_sisters

if TYPE_CHECKING:
    from os import PathLike
    from typing import Any, Unpack

    from harness.planning.options import RunOptions
    from harness.runs import Run
    from tasks import judge as judge

__version__ = "0.1.0"
__all__ = ["judge", "load", "open", "run", "unload"]

check_sisters()

# Threads that wait for each other spin for some microseconds, the time between two products of one token, and sleep
# then. Spinning on, OpenMP's own choice, keeps the core that the awaited thread needs where other processes run too;
# sleeping at once doubles a token's time (`benchmarks/busy.py`). Read when torch is loaded; a user's choice stands.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
    os.environ.update(OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="3000")


def __getattr__(name: str) -> Any:
    """`judge`: the package that has free answers judged by a language model (docs/judge.md), loaded when it is used."""
    if name == "judge":
        from tasks import judge

        return judge
    raise AttributeError(f"module 'harness' has no attribute {name!r}")


def run(
    *,
    preset: str = "quick",
    output: str | PathLike[str] | None = None,
    into: str | PathLike[str] | None = None,
    executor: str = "local",
    workers: int | None = None,
    replace: bool = False,
    **options: Unpack[RunOptions],
) -> Run:
    """Run a comparison, as `harness run` does, and return it. What is finished already is not computed again.

    Args:
        preset: name, a YAML file, or the `run.yaml` of a run.
        output: folder of the run; default `results/runs/` and a name that follows from the configuration. One that
            holds a run is extended.
        into: a run to extend: settings that are not given are as they are there.
        executor: `local`, `shared` (one of several processes on a planned run) or `ray` (`docs/cluster.md`).
        workers: processes, on this machine or of `ray`; default this one, or as many as the cluster has room for.
        replace: start the folder anew instead of extending what it holds.
        options: see `harness.planning.options.RunOptions`: methods, tasks, model, data, seeds, experts, shots, limit,
            settings (`{"routers.lr": 1e-3, "methods.mixer.loss.outer": 0.5}`), transfer_from, tune, device, ...

    Returns:
        The run. Cells that failed have records that say why; `run.records()` shows them.

    Raises:
        HarnessError: a mistake in an option, found before anything is computed.
    """
    from pathlib import Path

    from harness.planning.options import configuration
    from harness.planning.variants import Variant, of_run
    from harness.runs import Run
    from results.ground.errors import HarnessError

    folder: Path | None
    if into is not None:
        if preset != "quick" or output is not None or replace:
            raise HarnessError("into takes settings and folder from the run: leave out preset, output and replace.")
        variants, folder = of_run(Path(into), options), Path(into)
    else:
        variants = [Variant(configuration(preset, options))]
        folder = None if output is None else Path(output)
    arguments = ["(python)", *(f"{name}={value!r}" for name, value in options.items())]
    made = Run.start(variants, folder, arguments=arguments, replace=replace)
    if executor == "local" and workers is not None:
        from harness.executors.several import several

        several(made, workers)
    else:
        made.compute(executor, workers=workers)
    # All that its folder holds, not only what was asked for now.
    return Run.open(made.path)


def open(path: str | PathLike[str]) -> Run:
    """A run that a folder holds: to look at, to export from, to rescore, or to go on with (`compute`).

    Raises:
        HarnessError: the folder is no run.
    """
    from harness.runs import Run
    from results.ground.places import place

    return Run.open(place(str(path)))


def load(path: str | PathLike[str], **options: Any) -> Any:
    """The model in a folder that `harness export` wrote, as a plain transformers model.

    Its `lora_composed` is the handle on routing; `methods.saving.load` says which options there are (`task`, `base`,
    `device`, ...).

    Raises:
        HarnessError: the folder is none, or its base model is not at hand.
    """
    from methods import saving
    from results.ground.places import place

    return saving.load(place(str(path)), **options)


def unload(model: Any) -> Any:
    """Take a loaded composition off its model again, which is then the base to the bit.

    Raises:
        HarnessError: there is none on it.
    """
    from methods import saving

    return saving.unload(model)
