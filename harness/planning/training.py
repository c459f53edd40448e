"""Which of a run's settings a fit depends on: they are part of its hash and stand in its record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.planning.sections import OptimisationSection, RunConfig
from harness.versions import TRAINER_VERSION, TUNING_VERSION, WINDOW_STATISTICS_VERSION
from methods.naming import flatten

if TYPE_CHECKING:
    from methods.base import Method


def training_settings(config: RunConfig, method: Method) -> dict[str, Any]:
    """Settings of a method's fit. What was so before there was a name for it is left out, so that hashes stay."""
    # Rates of a source stand in the method's own configuration.
    section, budgets = config.routers.model_dump(mode="json", exclude={"rates"}), method.budgets()
    scales, weigh = section.pop("tuning_scales"), section.pop("weigh")
    settings: dict[str, Any] = {"trainer": TRAINER_VERSION, "tuning_scales": scales if config.tune else []}
    if config.tune and method.has_learning_rate():
        settings["tuning"] = TUNING_VERSION
    if weigh != "tokens" and method.has_learning_rate():
        settings["weigh"] = weigh
    if "accum" in flatten(method.config.model_dump()).values():
        settings["window_statistics"] = WINDOW_STATISTICS_VERSION
    if "router" in budgets:
        settings |= section
    if "expert" in budgets:
        decisive = {*OptimisationSection.model_fields, "seed"}
        settings["experts"] = config.experts.model_dump(mode="json", include=decisive)
    return settings
