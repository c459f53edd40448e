"""Routers that did not come to route: announced under every table that shows their rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from reports.scores import placed
from results.schema import Record, RoutingDiagnostics

COLLAPSED = 0.1
"""Normalised entropy below which a router has all but decided, whatever the token."""
ALIKE = 0.005
"""Difference of mass between tasks that is none."""
STILL = 1e-6
"""Mean change of a logit that is none."""

Found = Sequence[tuple[Record, RoutingDiagnostics]]
"""Records of one row and seed."""


def sentences(records: Sequence[Record]) -> list[str]:
    """One sentence for each kind of failure, with the rows and seeds that show it."""
    runs: dict[tuple[str, int], list[tuple[Record, RoutingDiagnostics]]] = {}
    for record in placed(records):
        if record.routing is not None:
            runs.setdefault((record.spec.method, record.spec.seed), []).append((record, record.routing))
    kinds: tuple[tuple[Callable[[Found], str | None], str], ...] = (
        (
            _collapsed,
            f"Collapsed routers (mean H(p)/ln N below {COLLAPSED:g}; each token goes to hardly more than one expert)",
        ),
        (
            _alike,
            "Routing that does not tell tasks apart (own-expert mass, or every expert's load, equal on all tasks)",
        ),
        (_still, "Routers that their fit did not move (what they do is their initial values')"),
    )
    found = []
    for shows, what in kinds:
        rows: dict[str, list[str]] = {}
        for (method, seed), own in runs.items():
            said = shows(own)
            if said is not None:
                rows.setdefault(method, []).append(f"{said} with seed {seed}" if said else f"seed {seed}")
        if rows:
            listed = "; ".join(f"{method} ({', '.join(seeds)})" for method, seeds in rows.items())
            found.append(f"{what}: {listed}.")
    return found


def _collapsed(found: Found) -> str | None:
    entropy = float(np.mean([d.entropy for _, d in found]))
    return f"{entropy:.2f}" if entropy < COLLAPSED else None


def _alike(found: Found) -> str | None:
    """Only of routers that were trained, on two tasks or more: random ones treat tasks alike by design."""
    if len(found) < 2 or not all(_trained(record) for record, _ in found):
        return None
    loads = np.array([d.load for _, d in found])
    if bool((np.ptp(loads, axis=0) < ALIKE).all()):
        return ""
    masses = [d.own_expert_mass for _, d in found if d.own_expert_mass is not None]
    return "" if len(masses) > 1 and max(masses) - min(masses) < ALIKE else None


def _still(found: Found) -> str | None:
    moved = any(d.logit_shift > STILL for _, d in found)
    return "" if not moved and all(_trained(record) for record, _ in found) else None


def _trained(record: Record) -> bool:
    return record.parameters.trainable.get("routers", 0) > 0
