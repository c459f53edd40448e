"""Where the stages of all runs are kept: a folder, or a remote store with a folder before it."""

from __future__ import annotations

import os

from harness.checkpoints import every
from results.claims import PATIENCE
from results.ground.errors import HarnessError
from results.ground.places import place
from results.stages import Stages

LONGEST = 86_400.0
"""Seconds that a silent claim may be respected for."""


def stage_store(address: str | None = None) -> Stages:
    """The user's stage store, shared by runs: `$HARNESS_STAGES`, a folder or a URL such as `s3://bucket/prefix`; else
    `stages` in the cache. Before a URL stands the folder `$HARNESS_STAGES_CACHE`, else the same one in the cache.

    Args:
        address: instead of `$HARNESS_STAGES`, as `Stages.address` gives it.

    Raises:
        HarnessError: a URL that cannot be one of a store, or a setting that is none.
    """
    from harness.assets import cache_root

    every()  # a mistake there is said before anything is computed
    own = cache_root() / "stages"
    asked = address or os.environ.get("HARNESS_STAGES") or own
    local = os.environ.get("HARNESS_STAGES_CACHE")
    return Stages.at(asked, place(local) if local else own, _patience())


def _patience() -> float:
    text = os.environ.get("HARNESS_STAGES_PATIENCE") or str(PATIENCE)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1.0 <= seconds <= LONGEST:
        raise HarnessError(f"HARNESS_STAGES_PATIENCE is {text!r:.40}: give seconds from 1 to {LONGEST:,.0f}.")
    return seconds
