"""A run's tasks joined with their rows, each read once, and which of them train which expert."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.planning.choices import known_experts
from harness.planning.sections import RunConfig
from results.ground.errors import HarnessError
from results.ground.plugins import PluginError, say_once
from tasks.base import BoundTask, TaskSettings, TaskUnavailable
from tasks.sources.base import SourceError

if TYPE_CHECKING:
    from tasks.sources import Source

Bound = dict[tuple[str, TaskSettings], BoundTask | SourceError]
"""What came of joining a task with its rows; an error is kept, so that rows that cannot be used are read once too."""


class Binder:
    """Joins tasks with the rows of one source under one configuration.

    Rows that cannot be used end nothing here: whoever asks for a task is told, and goes on with the others.
    """

    def __init__(self, config: RunConfig, source: Source, bound: Bound) -> None:
        """Args:
        config: of the run.
        source: of all tasks' rows.
        bound: tasks that are joined already; it grows.
        """
        self.config = config
        self.source = source
        self.bound = bound
        self._training: Bound = {}

    def settings(self, name: str, shots: int | None) -> TaskSettings:
        """What the configuration chooses about a task."""
        from tasks import registry

        section = self.config.eval
        limit = section.limit
        if registry.card(name).generative and section.generative_limit:
            limit = section.generative_limit
        return TaskSettings(
            shots=shots,
            fewshot=section.fewshot,
            prompt=section.prompt,
            chat_template=self.config.model.chat_template,
            limit=limit,
            max_new_tokens=section.max_new_tokens,
            samples=section.samples,
            temperature=section.temperature,
            answers=section.answers if registry.card(name).generative else "generated",
        )

    def bind(self, name: str, shots: int | None) -> BoundTask:
        """One task joined with its rows; kept, since several stages ask for it.

        Raises:
            TaskUnavailable: the source lacks it.
            SourceError: its rows cannot be used.
        """
        return self._kept(name, shots, training=False)

    def bind_for_training(self, name: str) -> BoundTask:
        """One task's rows to train on: as `bind`, but what is only evaluated may be damaged.

        Raises:
            TaskUnavailable: the source lacks it.
            SourceError: rows that train cannot be used.
        """
        try:
            return self.bind(name, self.config.eval.shots)
        except SourceError:
            return self._kept(name, self.config.eval.shots, training=True)

    def _kept(self, name: str, shots: int | None, *, training: bool) -> BoundTask:
        from tasks import registry

        key, known = (name, self.settings(name, shots)), self._training if training else self.bound
        if key not in known:
            task = registry.create(name)
            task.check(self.source)
            join = task.bind_for_training if training else task.bind
            try:
                known[key] = join(self.source, key[1], self._chat)
            except SourceError as error:
                known[key] = error
        found = known[key]
        if isinstance(found, SourceError):
            raise found
        return found

    @cached_property
    def _chat(self) -> Any:
        from harness import models

        section = self.config.model
        return (
            models.chat_template(section.name, section.revision, section.trust_remote_code)
            if section.chat_template
            else None
        )

    def expert_tasks(self, expert: str) -> list[BoundTask]:
        """Bound tasks whose training rows an expert learns from: those of its name in the expert map with data here.

        Raises:
            HarnessError: no registered task is served by that expert, or none has training rows in this source.
            SourceError: rows that it would learn from cannot be used; on the others alone it would be another expert.
        """
        from tasks import registry

        served = [name for name in registry.names() if registry.card(name).expert == expert]
        if not served:
            raise HarnessError(
                f"No task is served by the expert '{expert}': name one of {', '.join(known_experts())}, "
                f"or give its adapter with --experts {expert}=PATH."
            )
        bound = []
        for name in served:
            try:
                if registry.create(name).only_evaluated:
                    continue
                candidate = self.bind_for_training(name)
            except TaskUnavailable:
                continue
            except PluginError as error:
                say_once(f"{str(error).rstrip('.')}, so the task {name} is left out.")
                continue
            if candidate.parts["expert-train"]:
                bound.append(candidate)
        if not bound:
            raise HarnessError(
                f"The source '{self.config.data}' has no training rows for the expert '{expert}': leave it out of "
                "experts.names, choose another --data, or give its adapter with --experts NAME=PATH."
            )
        return bound

    def pool_tasks(self) -> dict[str, list[BoundTask]]:
        """Tasks with training rows by the expert that serves them; experts from outside may have none here.

        Raises:
            HarnessError: an expert that is trained here has none, or none has any.
            SourceError: rows of one of them cannot be used.
        """
        bound = {}
        for name in self.config.experts.names:
            try:
                bound[name] = self.expert_tasks(name)
            except SourceError:
                raise  # to have none is one thing, to have damaged ones another
            except HarnessError:
                if name not in self.config.experts.paths:
                    raise
        if not bound:
            raise HarnessError("No expert of the pool has routing data in this source: choose another --data.")
        return bound

    def routing_tasks(self) -> list[BoundTask]:
        """Tasks whose router-train rows make up the routing data: all that the pool's experts serve."""
        return [task for tasks in self.pool_tasks().values() for task in tasks]

    def target_tasks(self, name: str) -> list[BoundTask]:
        """Tasks whose router-train rows stand for one task where a method is fitted for it alone.

        The task itself, or those of its expert in the pool where it has no such rows (humaneval: mbpp's); empty
        without either.
        """
        from tasks import registry

        found: Sequence[BoundTask] = [self.bind(name, self.config.eval.shots)]
        expert = registry.card(name).expert
        if not found[0].parts["router-train"] and expert in self.config.experts.names:
            found = self.pool_tasks().get(expert, [])
        return [task for task in found if task.parts["router-train"]]
