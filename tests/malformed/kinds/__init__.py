"""Every malformed input, gathered by kind."""

from __future__ import annotations

from tests.malformed.kinds import adapters, lines, models, presets, rows, runs, store
from tests.malformed.world import Case

CASES: tuple[Case, ...] = tuple(
    case for kind in (lines, presets, adapters, models, rows, runs, store) for case in kind.cases()
)
