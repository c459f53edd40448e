"""What the user chose, checked and typed: methods with their configurations, tasks ready to be scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.planning.config import TRANSFER
from harness.planning.sections import RunConfig
from results.controls import KEY, SHUFFLED_ROUTER
from results.ground.errors import HarnessError
from results.ground.names import unknown

if TYPE_CHECKING:
    from methods.base import Comparison, Method
    from tasks.base import BoundTask
    from tasks.judge import Judge


@dataclass(frozen=True)
class MethodChoice:
    """A method as chosen: its display name carries the deviations the user asked for, not the preset's.

    `config` is for hashes and records: all values, and the hash of a method's own file. `origin` names the base model
    that its experts and its fit come from; None for the run's own. `control` names what was done to the method where
    the row is a control of it (`results.controls`). `tuned` holds the learning rates that trials chose before, by key.
    """

    display: str
    name: str
    method: Method
    track: str
    config: dict[str, Any]
    origin: str | None = None
    control: str | None = None
    tuned: Mapping[str, float] = field(default_factory=dict)

    @property
    def composed(self) -> dict[str, Any]:
        """The configuration of what is composed and fitted: a router that is shuffled is the method's own."""
        shuffled = self.control == SHUFFLED_ROUTER
        return {key: value for key, value in self.config.items() if not (shuffled and key == KEY)}


@dataclass(frozen=True)
class TaskChoice:
    """A task as chosen, joined with its data. `own` is the pool's expert for it, or None.

    `refusal` says why its rows cannot be used, if so; `bound` then only names it (`harness.planning.unread`).
    """

    display: str
    bound: BoundTask
    own: str | None
    refusal: str | None = None


def choose_methods(config: RunConfig) -> list[MethodChoice]:
    """The run's methods with their typed configurations.

    Overrides come from the methods' sources (learning rates, where `routers.rates` asks for them), from the preset
    (`method_defaults`, applied where a method has the key and its card does not set it, which makes the name what it
    is) and from earlier trials (`tuned_rates`, of exactly the row that was tried), none shown in the display name, and
    from the user (shown). A key for all methods (`*`) must be a key of
    every one of them, except `transfer.from`, which does nothing for a method without experts and fit.

    Raises:
        HarnessError: unknown method or key, a value of the wrong type, or two equal choices.
    """
    from methods import registry

    chosen: list[MethodChoice] = []
    stray = set(config.method_overrides) - {"*"} - {registry.parse(text)[0] for text in config.methods}
    if stray:
        raise HarnessError(f"`--set methods.{min(stray)}…` names a method that is not in --methods: add it there.")
    _check_rates(config)
    for text in config.methods:
        name, inline = registry.parse(text)
        shown = {**config.method_overrides.get("*", {}), **config.method_overrides.get(name, {}), **inline}
        choice = choose_method(config, name, shown, inline)
        if any(other.display == choice.display for other in chosen):
            other = "" if choice.display == text.strip() else f" ({text.strip()} is the same)"
            raise HarnessError(f"The method {choice.display} is chosen twice{other}: leave one out.")
        chosen.append(choice)
    return chosen


def _check_rates(config: RunConfig) -> None:
    """Raises:
    HarnessError: `tuned_rates` names a row or key that does not exist, or trials are asked for beside it.
    """
    from methods import registry

    if config.tune and config.tuned_rates:
        raise HarnessError("Rates that trials chose before (tuned_rates) and new trials (--tune): leave one out.")
    for row, rates in config.tuned_rates.items():
        name, _ = registry.parse(row)
        known = [key for key in registry.config_keys(name) if key.rsplit(".", 1)[-1] == "lr"]
        for key in rates:
            if key not in known:
                raise unknown(f"learning rate of the method {name}", key, known or ["(it has none)"])


def choose_method(
    config: RunConfig, name: str, shown: Mapping[str, Any], inline: Mapping[str, Any] | None = None
) -> MethodChoice:
    """One method of a run.

    Args:
        config: of the run.
        name: registered name.
        shown: what the user said of it, by dotted key.
        inline: what of that stands in its brackets.

    Raises:
        HarnessError: unknown key, a value of the wrong type, or a base model to take from that nothing is taken from.
    """
    from methods import registry
    from methods.naming import flatten

    keys = registry.config_keys(name)
    shown = dict(shown)
    origin = shown.pop(TRANSFER, None)
    if origin is not None and (not isinstance(origin, str) or not origin.strip()):
        raise HarnessError(f"{TRANSFER} of {name} must name a base model: correct it or leave it out.")
    for key in shown:
        if key not in keys:
            raise unknown(f"configuration key of the method {name}", key, list(keys) or ["(it has none)"])
    silent = dict(registry.method_class(name).source_rates) if config.routers.rates == "source" else {}
    own = flatten(registry.card(name).config)
    silent |= {key: value for key, value in config.method_defaults.items() if key in keys and key not in own}
    rows = ((registry.parse(row), rates) for row, rates in config.tuned_rates.items())
    tuned = next((rates for row, rates in rows if row == (name, shown)), {})
    silent |= tuned
    try:
        method = registry.create(name, {**silent, **shown}).within(comparison(config))
    except ValueError as error:
        raise HarnessError(f"The configuration of {name} is wrong: {_sentence(error)}") from error
    if origin is not None and not _has_something(method, config):
        if TRANSFER in (inline or {}):
            raise HarnessError(f"{name} has no experts and no fit that could be moved: leave {TRANSFER} out.")
        origin = None
    told = _telling(name, silent, shown, method, comparison(config))
    display = registry.display(name, told if origin is None else {**told, TRANSFER: origin})
    resolved = method.config.identity() | registry.identity(name)
    return MethodChoice(display, name, method, registry.card(name).track, resolved, origin, tuned=tuned)


def _telling(
    name: str, silent: Mapping[str, Any], shown: Mapping[str, Any], method: Method, within: Comparison
) -> dict[str, Any]:
    """Of the settings that were said those that change the method: one that spells a default out is the same row."""
    from methods import registry

    told = dict(shown)
    for key in shown:
        less = {other: value for other, value in told.items() if other != key}
        try:
            if registry.create(name, {**silent, **less}).within(within).config == method.config:
                told = less
        except ValueError:
            # Without it the others contradict each other.
            continue
    return told


def _has_something(method: Method, config: RunConfig) -> bool:
    """Whether a method uses experts or is fitted, so that there is something to take from another base model."""
    names = config.experts.names
    return method.trains() or any(method.depends_on(names, own) for own in names)


def comparison(config: RunConfig) -> Comparison:
    """What the methods of a run share beyond the pool's weights."""
    from methods.base import Comparison

    section = config.experts
    return Comparison(
        experts=section.names,
        rank=section.rank,
        alpha=section.alpha,
        dropout=section.lora_dropout,
        targets=section.targets,
        lr=section.lr,
    )


def identify_scoring(bound: BoundTask, config: RunConfig) -> None:
    """Give a task its judge or its minimum of isolation, whose names belong to its cells. Nothing is asked or started.

    Raises:
        HarnessError: no judge is configured, or settings are wrong.
    """
    if bound.needs_judge:
        bound.judge = judge_of(config, bound.name)
    if bound.runs_code:
        from tasks.sandbox import NAMES

        if config.min_isolation not in NAMES:
            raise unknown("isolation level", config.min_isolation, NAMES)
        bound.min_isolation = config.min_isolation


def ask_scoring(bound: BoundTask) -> None:
    """See that a task can be scored here: its judge answers, its sandbox starts.

    Raises:
        HarnessError: no judge can be asked, or no sandbox at or above the minimum works.
    """
    if bound.judge is not None:
        from tasks.judge import check

        check(bound.judge.config)
    if bound.runs_code:
        from tasks.sandbox import strongest

        strongest(bound.min_isolation)


def judge_of(config: RunConfig, task: str) -> Judge:
    """The judge of a configuration, not asked yet.

    Raises:
        HarnessError: none is configured, or its settings are wrong.
    """
    from pydantic import ValidationError

    from harness.assets import cache_root
    from tasks.judge import Judge, JudgeConfig

    if not config.judge:
        raise HarnessError(
            f"The task {task} needs a judge: use --set judge.preset=deepseek (key in DEEPSEEK_API_KEY), or start "
            "`transformers serve PATH` and use --set judge.preset=local --set judge.model=PATH."
        )
    try:
        judge = JudgeConfig.model_validate(config.judge)
        judge.load_rubric()
    except (ValidationError, ValueError) as error:
        raise HarnessError(f"The judge's settings are wrong: {_sentence(error)}") from error
    return Judge(judge, cache_root() / "judge")


def known_experts() -> list[str]:
    """Names in the expert map: every expert that some registered task is served by."""
    from tasks import registry

    return sorted({registry.card(name).expert for name in registry.names() if registry.card(name).expert})


def _sentence(error: Exception) -> str:
    problems = getattr(error, "errors", None)
    if callable(problems):
        first = problems()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}."
    return str(error)
