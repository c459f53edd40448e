"""Typed configurations of methods."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel

from results.ground.settings import Settings


class MethodConfig(Settings):
    """Base of every method's typed configuration: unknown keys are refused, values are frozen."""

    later: ClassVar[frozenset[str]] = frozenset()
    """Keys that a class got after results were stored under its name."""

    def identity(self) -> dict[str, Any]:
        """All values as JSON data, for hashes and records; keys of `later` only where they deviate, so that a new key
        leaves the name of what it does not change."""
        values = self.model_dump(mode="json")
        unsaid = {key for key in self.later if getattr(self, key) == _default(self, key)}
        return {key: value for key, value in values.items() if key not in unsaid}


def _default(config: BaseModel, key: str) -> Any:
    return type(config).model_fields[key].get_default(call_default_factory=True)
