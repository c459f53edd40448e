"""The configuration of a run, typed: every key, its kind, its bounds and its default where it has one."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from harness.planning.model import ModelSection
from results.ground.settings import Settings

T = TypeVar("T")


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    """At least one, none empty, none twice: a name that is there twice would count twice, or hide what it stands for.

    Raises:
        ValueError: says which.
    """
    if not values:
        raise ValueError("it is empty: give at least one")
    for place, value in enumerate(values):
        if isinstance(value, str) and not value.strip():
            raise ValueError("one name in it is empty: leave it out")
        if value in values[:place]:
            raise ValueError(f"{value} is in it twice: leave one out")
    return values


Names = Annotated[tuple[str, ...], AfterValidator(_distinct)]


def _given(values: tuple[T, ...]) -> tuple[T, ...]:
    """None of them empty.

    Raises:
        ValueError: one is.
    """
    if any(isinstance(value, str) and not value.strip() for value in values):
        raise ValueError("one name in it is empty: leave it out")
    return values


WIDEST = 2**16
"""Of a LoRA: no layer of a language model is so narrow that a higher rank would leave it of low rank."""


class OptimisationSection(Settings):
    """One training budget. `tokens` counts prompt and target tokens, padding excluded, over all epochs."""

    tokens: int | None = Field(default=None, gt=0)
    epochs: int = Field(default=1, gt=0)
    batch_size: int = Field(default=8, gt=0)
    micro_batch_size: int = Field(default=8, gt=0)
    lr: float = Field(gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    max_length: int = Field(default=1024, gt=1)


class ExpertsSection(OptimisationSection):
    """The pool and how its experts are trained (stage 1). `seed` null: the run's own, so each seed has its experts."""

    names: Names
    paths: dict[str, str] = Field(default={})
    seed: int | None = None
    rank: int = Field(gt=0, le=WIDEST)
    lora_alpha: float | None = None
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: Annotated[tuple[str, ...], AfterValidator(_given)] | None = Field(
        default=None, min_length=1, description="Last parts of the paths that get a LoRA; null: by the model's type."
    )

    @field_validator("paths")
    @classmethod
    def _of_the_pool(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        strangers = [name for name in value if name not in info.data.get("names", value)]
        if strangers:
            raise ValueError(f"{strangers[0]} is no expert of experts.names: name it there or leave it out")
        if empty := [name for name, path in value.items() if not path.strip()]:
            raise ValueError(f"{empty[0]} has an empty path: leave it out")
        return value

    @property
    def targets(self) -> tuple[str, ...]:
        """Target modules, filled in by `models.with_targets` where they are null."""
        if self.target_modules is None:
            raise ValueError("target modules are not resolved: use models.with_targets")
        return self.target_modules

    @property
    def alpha(self) -> float:
        """LoRA alpha: 2 * rank unless given, as in LoRA-Mixer's tables (arXiv 2507.00029, A.6: rank 64, alpha 128)."""
        return self.lora_alpha if self.lora_alpha is not None else 2.0 * self.rank


class RoutersSection(OptimisationSection):
    """How routers, gates and merge weights are trained (stage 2); the same for every method of a comparison."""

    examples: int | None = Field(default=None, gt=0)
    rates: Literal["shared", "source"] = Field(
        default="shared", description="Learning rates: these for all, or each method's source's where it gives one."
    )
    lr_experts: float = Field(default=1e-5, gt=0)
    mixture: Literal["uniform_by_task", "proportional"] = "uniform_by_task"
    weigh: Literal["tokens", "examples", "tasks"] = Field(
        default="examples", description="What counts alike in the task loss: target tokens, examples, or tasks."
    )
    tuning_scales: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(0.1, 1.0, 10.0), min_length=1)


class EvalSection(Settings):
    """What is evaluated, and how prompts are made."""

    limit: int | None = Field(default=None, gt=0)
    generative_limit: int | None = Field(default=None, gt=0)
    shots: int | None = Field(default=None, ge=0)
    fewshot: Literal["fixed", "per_item"] = "fixed"
    prompt: Literal["cloze", "letters", "flan"] = "cloze"
    max_new_tokens: int = Field(default=256, gt=0)
    samples: int = Field(default=1, gt=0)
    temperature: float = Field(default=0.0, ge=0, validate_default=True)
    batch_tokens: int | None = Field(default=None, gt=0)
    answers: Literal["generated", "reference"] = Field(
        default="generated", description="Reference: generate nothing, measure reference answers in bits per byte."
    )

    @model_serializer(mode="wrap")
    def _said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `answers` where nothing is changed by it: names of run folders are older than the key."""
        values: dict[str, Any] = handler(self)
        return {key: value for key, value in values.items() if (key, value) != ("answers", "generated")}

    @field_validator("temperature")
    @classmethod
    def _several_answers_differ(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("samples", 1) > 1 and value == 0:
            raise ValueError("several samples need one above 0, e.g. 0.2")
        return value


class RunConfig(Settings):
    """Everything that one run needs, resolved."""

    preset: str
    summary: str = ""
    model: ModelSection
    data: str = "bundled"
    methods: Names
    tasks: Names
    include: tuple[str, ...] = Field(default=(), description="Absolute paths of methods and tasks in files.")
    include_functions: bool = Field(default=False, description="Whether task files of lm-eval may run functions.")
    seeds: Annotated[tuple[int, ...], AfterValidator(_distinct)]
    experts: ExpertsSection
    routers: RoutersSection
    eval: EvalSection
    method_defaults: dict[str, Any] = Field(default={})
    method_overrides: dict[str, dict[str, Any]] = Field(
        default={}, description="Dotted key to value, by method name; `*` for every chosen method."
    )
    tuned_rates: dict[str, dict[str, Annotated[float, Field(gt=0)]]] = Field(
        default={},
        description="Learning rates that trials chose before: row as in `methods`, dotted key, rate. Not in its name.",
    )
    against: str | None = Field(
        default=None, description="Method to be compared with each other one; `all` for every pair."
    )
    controls: tuple[()] | Names = Field(
        default=(), description="Rows beside every adaptive method that say what of its gain is its own."
    )
    tune: bool = False
    judge: dict[str, Any] = Field(default={}, description="Keys of `tasks.judge.JudgeConfig`; empty for none.")
    min_isolation: str = "bubblewrap"
