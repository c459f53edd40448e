"""Controls: rows beside a method that say what of its gain is its own.

A row of a control is the method's with `control` in the record's configuration; its display name is the method's and
the control's label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEY = "control"
"""Of a method's configuration in a record."""
RANDOM_EXPERTS = "random-experts"
SHUFFLED_ROUTER = "shuffled-router"
ROUTER_DATA = "lora-router-data"
_BETWEEN = " · "


@dataclass(frozen=True)
class Control:
    """One kind of control.

    Attributes:
        label: in the names of rows and in sentences.
        about: stands under tables with such a row.
        version: raised when a change of the code changes its results; part of its stages' hashes.
    """

    label: str
    about: str
    version: int = 1


CONTROLS: dict[str, Control] = {
    RANDOM_EXPERTS: Control(
        "random experts",
        "the method as it is, fitted on the same rows, over random LoRAs of the experts' shapes whose updates have the "
        "experts' Frobenius norm at every site",
    ),
    SHUFFLED_ROUTER: Control(
        "shuffled router",
        "the method's own fit, but tokens of a prompt get the weights of one another, a token behind it those of a "
        "token before it, and where weights are a prompt's, prompts get those of one another; what a router knows of "
        "a text as a whole is left where weights differ between tokens",
    ),
    ROUTER_DATA: Control(
        "lora-router-data", "one LoRA of an expert's rank, trained on the rows and within the budget of the routers"
    ),
}


def named(method: str, control: str) -> str:
    """Display name of a method's row under a control."""
    return f"{method}{_BETWEEN}{CONTROLS[control].label}"


def identity(control: str) -> dict[str, Any]:
    """What a control adds to a method's configuration."""
    return {KEY: {"name": control, "version": CONTROLS[control].version}}


def control_of(config: Mapping[str, Any]) -> str | None:
    """The control that a record's method configuration names; None for a row of a method itself."""
    found = config.get(KEY)
    return str(found["name"]) if isinstance(found, Mapping) and "name" in found else None


def same_fit(config: Mapping[str, Any]) -> bool:
    """Whether a row's routers are another row's, so that a picture of routers would show them twice."""
    return control_of(config) == SHUFFLED_ROUTER


def controlled(display: str) -> str:
    """The method whose row's control has a display name."""
    return display.rpartition(_BETWEEN)[0]
