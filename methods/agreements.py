"""Which methods were compared with other implementations on equal weights, and how far they are from each other.

The data stands in `agreements.yaml`; tests assert every number in it, and that every method is in it.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict


class Agreement(BaseModel):
    """One comparison.

    Attributes:
        method: name of the method.
        setting: the variant that was compared, as in its name; empty for the defaults.
        about: what of the method was compared; empty for what its card describes first.
        peer: package or repository.
        version: of the package, or the repository's commit.
        how: whether the peer's code was run, or its arithmetic restated in the test.
        output, loss, gradient: bounds of the largest differences; None where it was not compared.
        test: `file::function` that asserts them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    setting: str = ""
    about: str = ""
    peer: str
    version: str
    how: Literal["run", "restated"]
    output: float | None
    loss: float | None
    gradient: float | None
    test: str


class Agreements(BaseModel):
    """All comparisons, and why a method has none, by its name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    peers: tuple[Agreement, ...]
    alone: dict[str, str]


@cache
def agreements() -> Agreements:
    """What is recorded."""
    text = (resources.files("methods") / "agreements.yaml").read_text(encoding="utf-8")
    return Agreements.model_validate(yaml.safe_load(text))


def agreed(method: str, peer: str, setting: str = "") -> Agreement:
    """The comparison of a method with a peer, for the test that asserts it.

    Raises:
        KeyError: none is recorded.
    """
    for one in agreements().peers:
        if (one.method, one.peer, one.setting) == (method, peer, setting):
            return one
    raise KeyError(f"{method} was not compared with {peer}: add it to methods/agreements.yaml.")


def table(names: list[str]) -> list[tuple[str, ...]]:
    """Rows for readers in the order of methods: method, peer and bounds, or why there is no peer."""
    found = agreements()
    rows: list[tuple[str, ...]] = []
    for name in names:
        own = [one for one in found.peers if one.method == name]
        for one in own:
            variant = f"`{one.method}[{one.setting}]`" if one.setting else f"`{one.method}`"
            parts = (f"{one.peer} {one.version}", one.about, "" if one.how == "run" else "restated")
            peer = ", ".join(filter(None, parts))
            rows.append((variant, peer, *(_bound(value) for value in (one.output, one.loss, one.gradient))))
        if not own:
            rows.append((f"`{name}`", f"none: {found.alone[name]}", "", "", ""))
    return rows


def _bound(value: float | None) -> str:
    return "" if value is None else f"{value:.0e}".replace("e-0", "e-")
