"""The options of a run, declared once: the command line, Python and presets take the same ones.

Each entry of `RunOptions` names the configuration key that it sets, which is the key that presets and `--set` use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict, get_type_hints

from harness.planning.config import TRANSFER, deep_merge, nest, resolve
from harness.planning.sections import RunConfig
from results.ground.errors import HarnessError


@dataclass(frozen=True)
class Option:
    """One option: what it says in `--help`, and what it sets.

    Attributes:
        help: one sentence.
        keys: dotted keys of the run's configuration that take the value as it is; none where `configuration` does it.
        names: kind of names that complete it in a shell.
        flag: name on the command line where it is not the Python name with dashes.
    """

    help: str
    keys: tuple[str, ...] = ()
    names: str | None = None
    flag: str | None = None


class RunOptions(TypedDict, total=False):
    """What a run may be told beside its preset; what is left out comes from there."""

    methods: Annotated[
        Sequence[str], Option("Comma-separated, e.g. mixer,mole or ./my_router.py.", ("methods",), "methods")
    ]
    tasks: Annotated[
        Sequence[str], Option("Comma-separated, e.g. gsm8k,arc-c or ./my_quiz.jsonl.", ("tasks",), "tasks")
    ]
    model: Annotated[str, Option("Bundled name, hub id, or folder.", ("model.name",), "models")]
    include: Annotated[
        Sequence[str], Option("Files of methods and tasks, lm-eval's task files too, comma-separated.", ("include",))
    ]
    data: Annotated[
        str,
        Option(
            "bundled, hub, or a directory; SET=SOURCE for a set of its own, e.g. bundled,arc=DIR.", ("data",), "sources"
        ),
    ]
    seeds: Annotated[Sequence[int], Option("Comma-separated integers.", ("seeds",))]
    experts: Annotated[
        Mapping[str, str | None] | Sequence[str],
        Option(
            "Pool, comma-separated: NAME, NAME=PATH (a PEFT LoRA folder or hub id), a folder of `harness pool`, or "
            "reference.",
            names="experts",
        ),
    ]
    shots: Annotated[int, Option("Few-shot examples for every task.", ("eval.shots",))]
    limit: Annotated[int, Option("At most this many items a task.", ("eval.limit", "eval.generative_limit"))]
    settings: Annotated[
        Mapping[str, Any],
        Option("key=value: of the run, of every method, or methods.NAME.key=value.", flag="--set"),
    ]
    transfer_from: Annotated[
        str, Option("Base model of equal shapes that experts and fits are taken from.", names="models")
    ]
    against: Annotated[
        str,
        Option(
            "Method to set against each other one, or all for every pair; default the first that routes.",
            ("against",),
            "opponents",
        ),
    ]
    controls: Annotated[
        Sequence[str],
        Option(
            "Rows beside every adaptive method: random-experts,shuffled-router,lora-router-data.",
            ("controls",),
            "controls",
        ),
    ]
    tune: Annotated[bool, Option("Choose learning rates on the dev part first.", ("tune",))]
    device: Annotated[str, Option("cpu, cuda:0, or auto.", ("model.device",), "devices")]
    min_isolation: Annotated[
        str, Option("Weakest sandbox allowed for generated code.", ("min_isolation",), "isolation")
    ]


class ExecutionOptions(TypedDict, total=False):
    """Where and how a run is computed."""

    executor: Annotated[
        str, Option("local, shared (one of several processes on --into RUN), slurm, or ray.", names="executors")
    ]
    output: Annotated[Path, Option("Folder of the run; default below results/runs. One that holds a run is extended.")]
    replace: Annotated[bool, Option("Start the folder anew instead of extending what it holds.")]
    workers: Annotated[int, Option("So many processes, 1 to 1,000: on this machine, of slurm, of ray, or with --plan.")]
    sbatch: Annotated[
        str, Option("Of --executor slurm: more options of sbatch, e.g. '--partition=gpu --time=4:00:00'.")
    ]
    dry_run: Annotated[bool, Option("Of --executor slurm: write the script, submit nothing.")]
    track: Annotated[
        str, Option("trackio, wandb or mlflow: losses, finished cells and the table, as they come.", names="trackers")
    ]


ROWS = ("methods", "controls", "against", "transfer_from")
"""Options that say which rows there are and what is asked of them; a matrix has its own."""
PLACES = ("data", "experts")
"""Options that say where something lies, which is no part of what a cell is."""
_LISTS = ("methods", "tasks", "include", "seeds", "controls")


def declared(options: type) -> Iterator[tuple[str, Any, Option]]:
    """Name, Python type and declaration of each option of a group."""
    for name, hint in get_type_hints(options, include_extras=True).items():
        yield name, hint.__origin__, next(part for part in hint.__metadata__ if isinstance(part, Option))


def configuration(preset: str, options: RunOptions, below: Mapping[str, Any] | None = None) -> RunConfig:
    """The resolved configuration of a run.

    Args:
        preset: name, a YAML file, or the `run.yaml` of a run.
        options: what was said beside it.
        below: nested values between the two, such as a paper's settings of a table.

    Raises:
        HarnessError: an unknown key, a wrong type, or an option of a wrong kind.
    """
    values = deep_merge(below or {}, overrides(options))
    return resolve(preset, values, method_settings(options))


def overrides(options: RunOptions) -> dict[str, Any]:
    """Options as nested configuration values; settings are left to `method_settings`.

    Raises:
        HarnessError: an option that is none, or a list given as something else.
    """
    known = {name: option for name, _, option in declared(RunOptions)}
    values: dict[str, Any] = {}
    given: Mapping[str, Any] = options
    for name, value in given.items():
        if value is None or name not in known:
            continue
        if name in (*_LISTS, "experts") and isinstance(value, str | int):
            raise HarnessError(f"{name} takes a list, not {value!r}: write [{value!r}].")
        for key in known[name].keys:
            values = deep_merge(values, nest(key, list(value) if name in _LISTS else value))
    if (experts := options.get("experts")) is not None:
        values = deep_merge(values, {"experts": _pool(experts)})
    return values


def method_settings(options: RunOptions) -> list[tuple[str, Any]]:
    """Settings by dotted key, those with an option of their own included."""
    settings = list((options.get("settings") or {}).items())
    if (moved := options.get("transfer_from")) is not None:
        settings.insert(0, (TRANSFER, moved))
    return settings


def _pool(experts: Mapping[str, str | None] | Sequence[str]) -> dict[str, Any]:
    if isinstance(experts, Mapping):
        pairs = list(experts.items())
    else:
        pairs = [(name, path or None) for name, _, path in (text.partition("=") for text in experts)]
    names = [name for name, _ in pairs]
    if "" in names or len(set(names)) < len(names):
        raise HarnessError(f"The pool {', '.join(names)} has an empty name or one twice: give each expert its own.")
    return {"names": names, "paths": {name: str(path) for name, path in pairs if path}}
