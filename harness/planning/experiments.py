"""From an entry of the paper's catalogue to the configurations of a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.planning.config import deep_merge, dotted_keys, load_preset, nest, resolve
from harness.planning.options import RunOptions, method_settings, overrides
from harness.planning.sections import RunConfig
from harness.planning.variants import Variant
from results.ground.errors import HarnessError
from results.planned import SOURCES

if TYPE_CHECKING:
    from reports.catalogue import Context, Entry, Need
    from reports.catalogue.model import Axis

ALL = "all"


def chosen_entries(name: str, options: RunOptions, values: Sequence[int] | None = None) -> list[Entry]:
    """The entries of a name, or all of them; with other methods or tasks where the options name some.

    Args:
        name: of an entry, or `ALL`.
        options: of the command.
        values: of what the entry varies, in place of the paper's and of those for small presets.

    Raises:
        reports.catalogue.UnknownEntryError: there is none.
        HarnessError: `values` are not whole numbers above 0 that differ, or the entry varies nothing.
    """
    from reports import catalogue

    chosen = list(catalogue.entries()) if name == ALL else [catalogue.entry(name)]
    if (moved := options.get("transfer_from")) is not None:
        chosen = [one.taken_from(moved) for one in chosen]
    named: dict[str, Any] = {key: tuple(options[key]) for key in ("methods", "tasks") if key in options}
    if "methods" in named:
        named["scaled_methods"] = ()
    if values is not None:
        named["axis"] = _axis(name, chosen, values)
    return [one.model_copy(update=named) if one.methods else one for one in chosen]


def _axis(name: str, chosen: Sequence[Entry], values: Sequence[int]) -> Axis:
    """What the one entry varies, with other values; see `chosen_entries`."""
    axis = chosen[0].axis
    if len(chosen) > 1 or axis is None:
        raise HarnessError(f"{name} varies nothing that --values could be of: leave it out.")
    if not values or min(values) < 1 or len(set(values)) < len(values):
        raise HarnessError(f"--values takes numbers of {axis.label} above 0, each once, such as 32,128,512.")
    return axis.model_copy(update={"paper": tuple(values), "scaled": tuple(values)})


def variants(one: Entry, preset: str, options: RunOptions, here: Context) -> list[Variant]:
    """What an entry needs of what is at hand: one configuration for each value that it varies.

    Raises:
        HarnessError: settings that fix what it varies, or cap it below a value, so that configurations would be equal.
    """
    from reports import catalogue

    missing = catalogue.availability(one, here).missing
    scaled = load_preset(preset)["experts"].get("tokens") is not None
    found = []
    for need in one.needs(scaled=scaled):
        config = _config(need, missing, preset, options)
        if one.axis is not None:
            _check_axis(one.name, one.axis, need.settings[one.axis.key], config)
        found.append(Variant(config, need.variant))
    return found


def _check_axis(name: str, axis: Axis, value: int, config: RunConfig) -> None:
    """See that a configuration varies what it says: `value` is what the axis wants there."""
    if _at(config, axis.key) != value:
        raise HarnessError(f"{name} varies {axis.key} itself: leave it out of --set.")
    cap = _at(config, axis.cap) if axis.cap else None
    if cap is not None and cap < value * config.routers.max_length:
        raise HarnessError(
            f"{name} varies the number of {axis.label}, and {axis.cap}={cap} can end before "
            f"{value:,} of them: leave {axis.cap} out of --set, or set it to null."
        )


def _at(config: RunConfig, key: str) -> Any:
    """The value of a dotted key."""
    found: Any = config
    for part in key.split("."):
        found = getattr(found, part)
    return found


def context(data: str, model: str, transfer_from: str = "") -> Context:
    """What is at hand, for the catalogue: registered methods, tasks of a kind of source, the models."""
    from methods import registry as methods
    from reports.catalogue import Context
    from tasks import registry as tasks

    kind = data if data in SOURCES else "dir"
    available = frozenset(name for name in tasks.names() if kind in tasks.card(name).sources)
    return Context(
        methods=frozenset(methods.names()),
        tasks=available,
        model=model,
        transfer_from=transfer_from,
        source="the bundled data" if kind == "bundled" else "the hub" if kind == "hub" else f"the directory {data}",
    )


def _config(need: Need, missing: Collection[str], preset: str, options: RunOptions) -> RunConfig:
    """The run's configuration with an entry's settings below what the user set."""
    run_keys = set(dotted_keys(RunConfig))
    below: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    for key, value in need.settings.items():
        if key in run_keys:
            below = deep_merge(below, nest(key, value))
        else:
            settings[key] = value
    values = deep_merge(below, overrides(options))
    values["methods"] = [method for method in need.methods if method not in missing]
    values["tasks"] = [task for task in need.tasks if task not in missing]
    return resolve(preset, values, [*_addressed(settings, values["methods"]), *method_settings(options)])


def _addressed(settings: Mapping[str, Any], chosen: Sequence[str]) -> list[tuple[str, Any]]:
    """An entry's method settings, addressed to the methods that have the key."""
    from methods import registry

    addressed: dict[str, Any] = {}
    for key, value in settings.items():
        for method in chosen:
            name, _inline = registry.parse(method)
            if key in registry.config_keys(name):
                addressed[f"methods.{name}.{key}"] = value
    return list(addressed.items())
