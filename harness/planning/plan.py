"""From a configuration to cells: what there is to compute, under which names, before anything heavy is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

from harness.planning.binding import Binder, Bound
from harness.planning.choices import MethodChoice, TaskChoice, choose_methods, identify_scoring
from harness.planning.config import TRANSFER
from harness.planning.controls import with_controls
from harness.planning.plugins import bring
from harness.planning.pool import PlannedPool
from harness.planning.rendered import sample
from harness.planning.sections import RunConfig
from harness.planning.training import training_settings
from harness.planning.unread import UnreadTask
from harness.versions import EVALUATION_VERSION, EXPERT_VERSION, TRAINER_VERSION
from results.controls import SHUFFLED_ROUTER, identity
from results.ground.collecting import paused
from results.ground.digest import digest
from results.ground.errors import HarnessError
from results.schema import CellSpec
from tasks.base import BoundTask
from tasks.reference_answers import ReferenceAnswers
from tasks.sources.base import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from methods.pool import PoolExpert
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


def is_settled(choice: MethodChoice, pool: Sequence[ExpertPlan]) -> bool:
    """Whether a cell is the same for every seed: its pool was brought, and the method draws and fits nothing."""
    method = choice.method
    if method.trains() or choice.control is not None:
        return False
    return not pool or not (method.seeded() or any(expert.path is None for expert in pool))


@dataclass(frozen=True)
class Cell:
    """One cell with the names of the stages it needs. `refusal` says why it cannot be computed, if so; `fault` whether
    that is rows that cannot be used, rather than a method that makes no sense here.

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
    fault: bool = False
    origin: Cell | None = None

    @property
    def group(self) -> tuple[str, bool, int]:
        """What it has in common with the cells that are evaluated on the same installed model."""
        return self.compose_key, self.method.control == SHUFFLED_ROUTER, self.seed

    @property
    def settled(self) -> bool:
        """Whether every seed gives the same: it draws no examples and no answers either."""
        asked = self.task.bound.settings
        return is_settled(self.method, self.pool) and asked.shots == 0 and asked.temperature == 0


@dataclass(frozen=True)
class _Needs:
    """What a cell needs beside the base model: experts, routing data by fingerprint, rows of its own; or why not."""

    pool: tuple[ExpertPlan, ...] = ()
    routing: str | None = None
    targets: list[BoundTask] | None = None
    refusal: str | None = None
    fault: bool = False


class Plan:
    """All cells of a run in table order, and the data they share.

    A task whose rows cannot be used, an expert that would learn from such rows, and a method that the base model or the
    pool does not suit (`Method.check`, `Method.takes`) refuse the cells that need them; the others go on.

    Raises (on construction):
        HarnessError: an unknown name or key, a task the source lacks, an expert without data, no method that suits the
            base model and the pool, or another base model whose experts and fits do not fit this one.
    """

    def __init__(
        self,
        config: RunConfig,
        source: Source,
        methods: Sequence[MethodChoice] | None = None,
        bound: Bound | None = None,
    ) -> None:
        """Args:
        config: of the run.
        source: of all tasks' rows.
        methods: default those of the configuration, and the rows of their controls.
        bound: tasks that are joined with their rows already.
        """
        from harness import models

        bring(config.include, functions=config.include_functions)
        config = models.with_targets(config)
        self.config = config
        self.source = source
        self.methods = with_controls(choose_methods(config), config) if methods is None else list(methods)
        where = (config.model.name, config.model.revision, config.model.trust_remote_code)
        self.model_revision = models.model_revision(*where)
        self.model_config = models.model_config(*where)
        models.buildable(self.model_config, config.model)
        self._experts: dict[tuple[str, int], ExpertPlan] = {}
        self._binder = Binder(config, source, {} if bound is None else bound)
        self.tasks = self._choose_tasks()
        self._pool = PlannedPool(config.experts, self.model_config, self._binder.expert_tasks)
        reasons = {choice.display: self._unfit(choice) for choice in self.methods}
        self._refused = {name: reason for name, reason in reasons.items() if reason is not None}
        if methods is None and len(self._refused) == len(self.methods):
            first, reason = next(iter(self._refused.items()))
            raise HarnessError(f"{first}: {reason}.")
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
        bound = None if model.chat_template else self._binder.bound
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
        with paused():
            return [self._cell(*place) for place in product(self.methods, self.tasks, self.config.seeds)]

    def pool(self, seed: int, names: Sequence[str]) -> tuple[ExpertPlan, ...]:
        """Those experts of one seed that are named, in the configuration's order.

        Raises:
            SourceError: one would learn from rows that cannot be used.
        """
        seed = self.expert_seed(seed)
        return tuple(self._expert(name, seed) for name in self.config.experts.names if name in names)

    def pool_expert(self, name: str) -> PoolExpert:
        """What is known of one expert before any weight is read."""
        return next(expert for expert in self._pool.experts if expert.name == name)

    def expert_tasks(self, expert: str) -> list[BoundTask]:
        """See `Binder.expert_tasks`."""
        return self._binder.expert_tasks(expert)

    def pool_tasks(self) -> dict[str, list[BoundTask]]:
        """See `Binder.pool_tasks`."""
        return self._binder.pool_tasks()

    def routing_tasks(self) -> list[BoundTask]:
        """See `Binder.routing_tasks`."""
        return self._binder.routing_tasks()

    def target_tasks(self, name: str) -> list[BoundTask]:
        """See `Binder.target_tasks`."""
        return self._binder.target_tasks(name)

    def _choose_tasks(self) -> list[TaskChoice]:
        from tasks import registry

        chosen: list[TaskChoice] = []
        for display in self.config.tasks:
            name, shots = registry.parse(display)
            shots = shots if shots is not None else self.config.eval.shots
            bound: BoundTask
            refusal = None
            try:
                bound = self._binder.bind(name, shots)
                if bound.settings.answers == "reference":
                    bound = ReferenceAnswers(bound)
            except SourceError as error:
                bound, refusal = UnreadTask(name, self.source, self._binder.settings(name, shots), error), str(error)
            identify_scoring(bound, self.config)
            if twin := next((one for one in chosen if _same(one.bound, bound)), None):
                also = "" if twin.display == display else f", as {twin.display} too"
                raise HarnessError(f"The task {display} is chosen twice{also}: leave one out.")
            expert = registry.card(name).expert
            own = expert if expert in self.config.experts.names else None
            chosen.append(TaskChoice(display, bound, own, refusal))
        return chosen

    def _unfit(self, choice: MethodChoice) -> str | None:
        """Why a method can compute no cell here: the base model, its settings, or the pool; None where it can some."""
        from methods.base import Unsupported

        try:
            choice.method.check(self.model_config, self.config.experts.names)
            return choice.method.takes(self._pool.experts)
        except Unsupported as error:
            return str(error).removesuffix(".")
        except SourceError:
            # Damaged rows are told of cell by cell.
            return None

    def expert_seed(self, seed: int) -> int:
        """Seed of the pool's experts in a run's cells of one seed."""
        fixed = self.config.experts.seed
        return seed if fixed is None else fixed

    def _expert(self, name: str, seed: int) -> ExpertPlan:
        if (name, seed) not in self._experts:
            self._experts[name, seed] = self._described(name, seed)
        return self._experts[name, seed]

    def _described(self, name: str, seed: int) -> ExpertPlan:
        section = self.config.experts
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
        identity = {
            "revision": self.model_revision,
            "dtype": section.arithmetic,
            "chat_template": section.chat_template,
        }
        return identity | ({"trust_remote_code": True} if section.trust_remote_code else {})

    @cached_property
    def _routing_identity(self) -> str:
        return digest([_training_identity(task) for task in self.routing_tasks()])

    def _cell(self, choice: MethodChoice, task: TaskChoice, seed: int) -> Cell:
        if choice.origin is not None:
            return self._moved_cell(choice, task, seed, self.origins[choice.origin])
        config, method = self.config, choice.method
        needs, trained = self._needs(choice, task, seed), method.trains()
        training = training_settings(config, method) if trained else {}
        settled = is_settled(choice, needs.pool)
        section, asked = task.bound.settings, sample(task.bound, seed).digest
        compose_key = digest(
            {
                "model": self._model_identity(),
                "method": [choice.name, method.version, choice.composed],
                "pool": [[expert.name, expert.key] for expert in needs.pool],
                "routing": needs.routing,
                "training": training,
                "seed": None if settled else seed,
                "task": needs.targets and [_training_identity(target) for target in needs.targets],
            }
        )
        spec = CellSpec(
            model=config.model.name,
            model_revision=self.model_revision,
            dtype=config.model.arithmetic,
            chat_template=config.model.chat_template,
            method=choice.display,
            method_name=choice.name,
            method_version=method.version,
            method_config=choice.config,
            pool={expert.name: expert.key for expert in needs.pool},
            task=task.display,
            task_name=task.bound.name,
            task_version=task.bound.version,
            task_config=section.model_dump(mode="json") | task.bound.scoring() | {"requests": asked},
            data_fingerprint=task.bound.fingerprint,
            routing_fingerprint=needs.routing,
            training=training,
            seed=seed,
        )
        shuffled = choice.control == SHUFFLED_ROUTER
        evaluated = digest([compose_key, identity(SHUFFLED_ROUTER)]) if shuffled else compose_key
        outputs_key = self._outputs_key(task, seed, evaluated)
        return Cell(
            spec, digest(spec), choice, task, seed, needs.pool, compose_key, outputs_key, needs.refusal, needs.fault
        )

    def _needs(self, choice: MethodChoice, task: TaskChoice, seed: int) -> _Needs:
        names, method = self.config.experts.names, choice.method
        if task.refusal is not None:
            return _Needs(refusal=task.refusal, fault=True)
        if choice.display in self._refused:
            return _Needs(refusal=self._refused[choice.display])
        try:
            routing = self._routing_identity if method.trains() else None
            targets = self.target_tasks(task.bound.name) if method.per_task() and method.trains() else None
            if not method.serves(names, task.own):
                return _Needs((), routing, targets, f"no expert of the pool serves {task.display}")
            if targets == []:
                return _Needs((), routing, targets, f"there are no routing examples of {task.display}")
            return _Needs(self.pool(seed, method.depends_on(names, task.own)), routing, targets)
        except SourceError as error:
            return _Needs(refusal=str(error), fault=True)

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
                "task_config": {**origin.spec.task_config, "requests": sample(task.bound, seed).digest},
                "training": {**origin.spec.training, "base": base},
            }
        )
        outputs_key = self._outputs_key(task, seed, digest([origin.compose_key, self._model_identity()]))
        pool = tuple(replace(expert, origin=choice.origin) for expert in origin.pool)
        key, fault = digest(spec), origin.fault
        refusal = origin.refusal or self._refused.get(choice.display)
        return Cell(spec, key, choice, task, seed, pool, origin.compose_key, outputs_key, refusal, fault, origin)

    def _outputs_key(self, task: TaskChoice, seed: int, composed: str) -> str:
        section = task.bound.settings
        return digest(
            {
                "version": EVALUATION_VERSION,
                "composed": composed,
                "task": [task.bound.name, task.bound.version, section],
                "own": task.own,
                "data": task.bound.fingerprint,
                "requests": sample(task.bound, seed).digest,
                "seed": None if section.shots == 0 and section.temperature == 0 else seed,
            }
        )


def _training_identity(task: BoundTask) -> list[Any]:
    settings = task.settings
    return [task.name, task.version, task.fingerprint, settings.prompt, settings.chat_template]


def _same(one: BoundTask, other: BoundTask) -> bool:
    return (one.name, one.settings) == (other.name, other.settings)
