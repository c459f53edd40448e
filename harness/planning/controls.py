"""Which controls a run's methods get (`--controls`), and why some get none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.planning.choices import MethodChoice, choose_method
from harness.planning.config import TRANSFER
from harness.planning.sections import RunConfig
from results.controls import CONTROLS, RANDOM_EXPERTS, ROUTER_DATA, SHUFFLED_ROUTER, identity, named
from results.ground.names import unknown


def with_controls(chosen: Sequence[MethodChoice], config: RunConfig) -> list[MethodChoice]:
    """Methods, each with the rows of its controls behind it, and those of the whole run at the end.

    Args:
        chosen: the methods.
        config: of the run.

    Raises:
        HarnessError: there is no such control.
    """
    for name in config.controls:
        if name not in CONTROLS:
            raise unknown("control", name, CONTROLS)
    found: list[MethodChoice] = []
    for choice in chosen:
        found.append(choice)
        found += [
            _under(choice, control)
            for control in config.controls
            if control != ROUTER_DATA and obstacle(choice, control, config) is None
        ]
    if ROUTER_DATA in config.controls and _router_data_obstacle(chosen) is None:
        found.append(choose_method(config, ROUTER_DATA, {}))
    return found


def left_out(methods: Sequence[MethodChoice], config: RunConfig) -> list[str]:
    """A sentence for each control that makes no sense for a method, or adds nothing.

    Args:
        methods: of a plan, with or without rows of controls.
        config: of the run.
    """
    said = []
    own = [one for one in methods if one.control is None]
    for control in config.controls:
        if control == ROUTER_DATA:
            # A row that the control has added is no obstacle to it.
            others = own if ROUTER_DATA in config.methods else [one for one in own if one.name != ROUTER_DATA]
            reason = _router_data_obstacle(others)
            said += [] if reason is None else [f"No {control}: {reason}."]
            continue
        for choice in own:
            if choice.name == ROUTER_DATA and ROUTER_DATA not in config.methods:
                continue
            reason = obstacle(choice, control, config)
            said += [] if reason is None else [f"No {named(choice.display, control)}: {reason}."]
    return said


def obstacle(choice: MethodChoice, control: str, config: RunConfig) -> str | None:
    """Why a control makes no sense for a method, without a full stop; None where it does."""
    method, pool = choice.method, config.experts.names
    if choice.origin is not None:
        return f"its experts and its fit are another model's ({TRANSFER})"
    if control == SHUFFLED_ROUTER:
        return None if method.routes() is not None else "no router of it chooses weights by what it reads"
    assert control == RANDOM_EXPERTS
    if not any(method.depends_on(pool, own) for own in (None, *pool)):
        return "it takes no expert of the pool"
    if not method.trains() and method.routes() is None:
        return "nothing of it is fitted or routed, so that it adapts to no expert"
    return None


def _router_data_obstacle(chosen: Sequence[MethodChoice]) -> str | None:
    if any(one.name == ROUTER_DATA for one in chosen):
        return "it is among the methods already"
    if not any(one.track == "compose" and one.method.trains() for one in chosen):
        return "no method that composes the pool is fitted on any rows"
    return None


def _under(choice: MethodChoice, control: str) -> MethodChoice:
    return replace(
        choice, display=named(choice.display, control), config=choice.config | identity(control), control=control
    )
