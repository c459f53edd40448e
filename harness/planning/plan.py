"""From a configuration to cells: what there is to compute, under which names, before anything heavy is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.planning.choices import MethodChoice, TaskChoice, choose_methods, identify_scoring, known_experts
from harness.planning.config import TRANSFER, RunConfig
from harness.planning.plugins import bring
from harness.planning.training import training_settings
from harness.versions import EVALUATION_VERSION, EXPERT_VERSION, TRAINER_VERSION
from results.ground.digest import digest
from results.ground.errors import HarnessError
from results.ground.plugins import PluginError, say_once
from results.schema import CellSpec
from tasks.base import BoundTask, TaskSettings, TaskUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.sources import Source


@dataclass(frozen=True)
class ExpertPlan:
    """One expert of the pool: trained here from `tasks`, or read from `path`. `key` names its weights' content.

    `origin` names the base model that it is trained on where that is not the run's.
    """

    name: str
    key: str
    seed: int
    tasks: tuple[str, ...]
    path: str | None = None
    origin: str | None = None


@dataclass(frozen=True)
class Cell:
    """One cell with the names of the stages it needs. `refusal` says why it cannot be computed, if so.

    `origin` is the cell of another base model whose experts and fit this one takes as they are: `pool` and
    `compose_key` are then that cell's, and only the outputs are its own.
    """

    spec: CellSpec
    key: str
    method: MethodChoice
    task: TaskChoice
    seed: int
    pool: tuple[ExpertPlan, ...]
    compose_key: str
    outputs_key: str
    refusal: str | None = None
    origin: Cell | None = None


class Plan:
    """All cells of a run in table order, and the data they share.

    Raises (on construction):
        HarnessError: an unknown name or key, a task the source lacks, an expert without data, a pool too small, or
            another base model whose experts and fits do not fit this one.
    """

    def __init__(
        self,
        config: RunConfig,
        source: Source,
        methods: Sequence[MethodChoice] | None = None,
        bound: dict[tuple[str, TaskSettings], BoundTask] | None = None,
    ) -> None:
        """Args:
        config: of the run.
        source: of all tasks' rows.
        methods: default those of the configuration.
        bound: tasks that are joined with their rows already.
        """
        from harness import models

        bring(config.include, functions=config.include_functions)
        config = models.with_targets(config)
        self.config = config
        self.source = source
        self.methods = choose_methods(config) if methods is None else list(methods)
        where = (config.model.name, config.model.revision, config.model.trust_remote_code)
        self.model_revision = models.model_revision(*where)
        self.model_config = models.model_config(*where)
        self._bound = {} if bound is None else bound
        self.tasks = self._choose_tasks()
        self._check_methods()
        self._check_pool()
        self.origins = {name: self._origin(name) for name in dict.fromkeys(m.origin for m in self.methods if m.origin)}

    def _origin(self, name: str) -> Plan:
        """The plan of the same run on another base model, for the methods that take experts and fits from it.

        Raises:
            HarnessError: it is this run's own model, or its linear layers have other shapes.
        """
        from methods.shapes import config_shapes, differences

        model = self.config.model.model_copy(update={"name": name, "revision": None, "trust_remote_code": False})
        methods = [replace(method, origin=None) for method in self.methods if method.origin == name]
        # A chat template is the model's own.
        bound = None if model.chat_template else self._bound
        origin = Plan(self.config.model_copy(update={"model": model}), self.source, methods, bound)
        here = self.config.model.name
        if origin.model_revision == self.model_revision:
            raise HarnessError(f"{TRANSFER} names the model of the run itself, {name}: leave it out or choose another.")
        if unequal := differences(config_shapes(origin.model_config), config_shapes(self.model_config)):
            raise HarnessError(
                f"The experts and routers of {name} do not fit {here}: {unequal}; choose another --model."
            )
        return origin

    @cached_property
    def cells(self) -> list[Cell]:
        """Cells in table order: methods, tasks, seeds."""
        return [
            self._cell(method, task, seed)
            for method in self.methods
            for task in self.tasks
            for seed in self.config.seeds
        ]

    def pool(self, seed: int) -> tuple[ExpertPlan, ...]:
        """The experts of one seed, in the configuration's order."""
        return tuple(self._expert(name, seed) for name in self.config.experts.names)

    def expert_tasks(self, expert: str) -> list[BoundTask]:
        """Bound tasks whose training rows an expert learns from: those of its name in the expert map with data here.

        Raises:
            HarnessError: no registered task is served by that expert, or none has training rows in this source.
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
                candidate = self.bind(name, self.config.eval.shots)
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

    def bind(self, name: str, shots: int | None) -> BoundTask:
        """One task joined with its rows; kept, since several stages ask for it."""
        from tasks import registry

        section = self.config.eval
        card = registry.card(name)
        limit = section.generative_limit if card.generative and section.generative_limit else section.limit
        settings = TaskSettings(
            shots=shots,
            fewshot=section.fewshot,
            prompt=section.prompt,
            chat_template=self.config.model.chat_template,
            limit=limit,
            max_new_tokens=section.max_new_tokens,
            samples=section.samples,
            temperature=section.temperature,
        )
        if (name, settings) not in self._bound:
            task = registry.create(name)
            task.check(self.source)
            self._bound[name, settings] = task.bind(self.source, settings, self._chat)
        return self._bound[name, settings]

    @cached_property
    def _chat(self) -> Any:
        from harness import models

        section = self.config.model
        return (
            models.chat_template(section.name, section.revision, section.trust_remote_code)
            if section.chat_template
            else None
        )

    def _choose_tasks(self) -> list[TaskChoice]:
        from tasks import registry

        chosen = []
        for display in self.config.tasks:
            name, shots = registry.parse(display)
            bound = self.bind(name, shots if shots is not None else self.config.eval.shots)
            identify_scoring(bound, self.config)
            expert = registry.card(name).expert
            chosen.append(TaskChoice(display, bound, expert if expert in self.config.experts.names else None))
        return chosen

    def _check_methods(self) -> None:
        from methods.base import Unsupported

        for choice in self.methods:
            try:
                choice.method.check(self.model_config, self.config.experts.names)
            except Unsupported as error:
                raise HarnessError(f"{choice.display}: {error}") from error

    def _check_pool(self) -> None:
        """See that experts from outside fit the base model, by their shapes."""
        from harness.models import skeleton
        from harness.training.experts import outside_folder
        from methods.experts import check_fits, load_expert

        for name, path in self.config.experts.paths.items():
            if name in self.config.experts.names:
                check_fits(load_expert(name, outside_folder(name, path)), skeleton(self.model_config))

    def expert_seed(self, seed: int) -> int:
        """Seed of the pool's experts in a run's cells of one seed."""
        fixed = self.config.experts.seed
        return seed if fixed is None else fixed

    def _expert(self, name: str, seed: int) -> ExpertPlan:
        section = self.config.experts
        seed = self.expert_seed(seed)
        if name in section.paths:
            from harness.training.experts import outside_digest

            return ExpertPlan(name, outside_digest(name, section.paths[name]), seed, (), section.paths[name])
        tasks = self.expert_tasks(name)
        recipe = section.model_dump(mode="json", exclude={"names", "paths", "seed"})
        key = digest(
            {
                "version": [EXPERT_VERSION, TRAINER_VERSION],
                "model": self._model_identity(),
                "expert": name,
                "data": [_training_identity(task) for task in tasks],
                "recipe": recipe | {"lora_alpha": section.alpha},
                "seed": seed,
            }
        )
        return ExpertPlan(name, key, seed, tuple(task.name for task in tasks))

    def _model_identity(self) -> dict[str, Any]:
        section = self.config.model
        identity = {"revision": self.model_revision, "dtype": section.dtype, "chat_template": section.chat_template}
        return identity | ({"trust_remote_code": True} if section.trust_remote_code else {})

    def pool_tasks(self) -> dict[str, list[BoundTask]]:
        """Tasks with training rows by the expert that serves them; experts from outside may have none here.

        Raises:
            HarnessError: an expert that is trained here has none, or none has any.
        """
        bound = {}
        for name in self.config.experts.names:
            try:
                bound[name] = self.expert_tasks(name)
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

        found = [self.bind(name, self.config.eval.shots)]
        expert = registry.card(name).expert
        if not found[0].parts["router-train"] and expert in self.config.experts.names:
            found = self.pool_tasks().get(expert, [])
        return [task for task in found if task.parts["router-train"]]

    def _routing_identity(self) -> str:
        return digest([_training_identity(task) for task in self.routing_tasks()])

    def _cell(self, choice: MethodChoice, task: TaskChoice, seed: int) -> Cell:
        if choice.origin is not None:
            return self._moved_cell(choice, task, seed, self.origins[choice.origin])
        config, method = self.config, choice.method
        names = method.depends_on(config.experts.names, task.own)
        refusal = None
        if not method.serves(config.experts.names, task.own):
            refusal = f"no expert of the pool serves {task.display}"
            names = ()
        trained = method.trains()
        targets = self.target_tasks(task.bound.name) if method.per_task() and trained else None
        if refusal is None and targets == []:
            refusal = f"there are no routing examples of {task.display}"
            names = ()
        pool = tuple(expert for expert in self.pool(seed) if expert.name in names) if names else ()
        routing = self._routing_identity() if trained else None
        training = training_settings(config, method) if trained else {}
        section = task.bound.settings
        compose_key = digest(
            {
                "model": self._model_identity(),
                "method": [choice.name, method.version, choice.config],
                "pool": [[expert.name, expert.key] for expert in pool],
                "routing": routing,
                "training": training,
                "seed": seed if pool or trained else None,
                "task": targets and [_training_identity(target) for target in targets],
            }
        )
        spec = CellSpec(
            model=config.model.name,
            model_revision=self.model_revision,
            dtype=config.model.dtype,
            chat_template=config.model.chat_template,
            method=choice.display,
            method_name=choice.name,
            method_version=method.version,
            method_config=choice.config,
            pool={expert.name: expert.key for expert in pool},
            task=task.display,
            task_name=task.bound.name,
            task_version=task.bound.version,
            task_config=section.model_dump(mode="json") | task.bound.scoring(),
            data_fingerprint=task.bound.fingerprint,
            routing_fingerprint=routing,
            training=training,
            seed=seed,
        )
        outputs_key = self._outputs_key(task, seed, compose_key)
        return Cell(spec, digest(spec), choice, task, seed, pool, compose_key, outputs_key, refusal)

    def _moved_cell(self, choice: MethodChoice, task: TaskChoice, seed: int, plan: Plan) -> Cell:
        """A cell of another base model's plan, evaluated on this run's model."""
        theirs = next(other for other in plan.tasks if other.display == task.display)
        origin = plan._cell(replace(choice, origin=None), theirs, seed)
        base = {"name": plan.config.model.name, **plan._model_identity()}
        spec = origin.spec.model_copy(
            update={
                "model": self.config.model.name,
                "model_revision": self.model_revision,
                "data_fingerprint": task.bound.fingerprint,
                "training": {**origin.spec.training, "base": base},
            }
        )
        outputs_key = self._outputs_key(task, seed, digest([origin.compose_key, self._model_identity()]))
        pool = tuple(replace(expert, origin=choice.origin) for expert in origin.pool)
        key, refusal = digest(spec), origin.refusal
        return Cell(spec, key, choice, task, seed, pool, origin.compose_key, outputs_key, refusal, origin)

    def _outputs_key(self, task: TaskChoice, seed: int, composed: str) -> str:
        section = task.bound.settings
        return digest(
            {
                "version": EVALUATION_VERSION,
                "composed": composed,
                "task": [task.bound.name, task.bound.version, section],
                "own": task.own,
                "data": task.bound.fingerprint,
                "seed": None if section.shots == 0 else seed,
            }
        )


def _training_identity(task: BoundTask) -> list[Any]:
    settings = task.settings
    return [task.name, task.version, task.fingerprint, settings.prompt, settings.chat_template]
