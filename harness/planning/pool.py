"""The pool of a run before any weight is read: what its experts look like and which rows they have."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.planning.sections import ExpertsSection
from results.ground.errors import HarnessError
from tasks.sources.base import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from methods.adapter_file import Adapter, SiteShape
    from methods.pool import PoolExpert
    from tasks.base import BoundTask


class PlannedPool:
    """What methods are told of a pool. Adapters from outside are read by their headers and checked against the base."""

    def __init__(self, section: ExpertsSection, model_config: Any, tasks: Callable[[str], list[BoundTask]]) -> None:
        """Args:
        section: of the configuration, with its target modules named.
        model_config: the base's `transformers` configuration.
        tasks: gives those whose rows an expert learns from (`Binder.expert_tasks`).

        Raises:
            AdapterError: an adapter from outside cannot be read, or does not fit the base.
        """
        from harness.training.experts import outside_folder
        from methods.adapter_file import read_adapter
        from methods.fitting import check_adapter

        self._section = section
        self._model_config = model_config
        self._tasks = tasks
        self._adapters: dict[str, Adapter] = {}
        for name in section.names:
            if name in section.paths:
                self._adapters[name] = read_adapter(outside_folder(name, section.paths[name]))
                check_adapter(name, self._adapters[name], self._skeleton)

    @cached_property
    def experts(self) -> tuple[PoolExpert, ...]:
        """All of them, in order."""
        from methods.pool import PoolExpert

        def expert(name: str) -> PoolExpert:
            return PoolExpert(name, lambda: self._sites(name), lambda: self._parts(name))

        return tuple(expert(name) for name in self._section.names)

    @cached_property
    def _skeleton(self) -> Any:
        from harness.models import skeleton

        return skeleton(self._model_config)

    @cached_property
    def _linear(self) -> dict[str, tuple[int, int]]:
        from torch import nn

        from methods.routing.tokens import in_towers, towers

        outside = towers(self._skeleton)
        return {
            path: (module.out_features, module.in_features)
            for path, module in self._skeleton.named_modules()
            if isinstance(module, nn.Linear) and not in_towers(path, outside)
        }

    def _sites(self, name: str) -> Mapping[str, SiteShape]:
        from methods.adapter_file import SiteShape

        if name in self._adapters:
            sites = self._adapters[name].sites
            return {path: sites[path] for path in [*self._linear, *sites] if path in sites}
        targets = self._section.targets
        return {
            path: SiteShape(self._section.rank, *shape)
            for path, shape in self._linear.items()
            if any(path == target or path.endswith(f".{target}") for target in targets)
        }

    def _parts(self, name: str) -> frozenset[str]:
        """Kinds of rows.

        Raises:
            SourceError: rows that it would learn from cannot be used.
            HarnessError: it is trained here and has none.
        """
        try:
            return frozenset(part for task in self._tasks(name) for part, rows in task.parts.items() if rows)
        except SourceError:
            raise
        except HarnessError:
            if name not in self._section.paths:
                raise
            return frozenset()
