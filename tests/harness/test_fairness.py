"""One budget for every method of a comparison: data, steps, and trials of learning rates."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness import progress
from harness.checkpoints import Checkpoint
from harness.models import with_targets
from harness.planning.choices import choose_methods
from harness.planning.config import resolve
from harness.planning.sections import RunConfig
from harness.planning.training import training_settings
from harness.training.tuning import trial_scales, tuned_fit
from harness.versions import TUNING_VERSION
from methods import registry
from methods.base import Composed, TrainingPhase
from methods.tiny import TinySession, tiny_experts, tiny_llama

SCALES = (0.1, 1.0, 10.0)
SEARCHED = {"lorahub", "best-single", "task-arithmetic", "knots", "iso-c", "core-space", "regmean"}
SEARCHED |= {"avg-act", "retrieval"}


def config(*, tune: bool) -> RunConfig:
    return resolve("smoke", {"tune": tune})


class Scaled(TinySession):
    """Has what tuning asks of the engine's session: a factor on every rate, and counted tokens."""

    def __init__(self, scale: float) -> None:
        super().__init__(lr=1e-2 * scale)
        self.scale = scale
        self.tokens = 100
        self.kept = Checkpoint()

    def dev_loss(self, composed: Composed, n: int) -> float:
        return self.loss(composed, "dev", n)

    def train(self, composed: Composed, phase: TrainingPhase) -> None:
        super().train(composed, replace(phase, lr={name: self.scale * rate for name, rate in phase.lr.items()}))


@pytest.mark.parametrize("name", registry.names())
def test_trials_are_the_same_for_all_that_have_a_learning_rate(name: str) -> None:
    method = registry.create(name)
    expected = () if not method.trains() else (1.0,) if name in SEARCHED else SCALES
    assert trial_scales(config(tune=True), method) == expected
    assert trial_scales(config(tune=False), method) == ()


@pytest.mark.parametrize("name", [name for name in registry.names() if registry.create(name).trains()])
def test_what_is_said_to_have_no_learning_rate_takes_no_steps(name: str) -> None:
    """Those with one end elsewhere under another rate; a search ends where it ended."""
    from methods.conformance import Subject

    subject = Subject(name)
    states = []
    for scale in (1.0, 10.0):
        composed = subject.install()
        subject.method().fit(composed, Scaled(scale))
        states.append(composed.state())
    same = all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert same == (name in SEARCHED)
    assert subject.method().has_learning_rate() != same


def planned(rates: str, sets: tuple[str, ...] = ()) -> dict[str, Any]:
    names = ["mixer", "phatgoose", "aesl", "mixlora", "ds-moe-dense"]
    chosen = choose_methods(with_targets(resolve("quick", {"methods": names}, [f"routers.rates={rates}", *sets])))
    return {choice.display: choice.config for choice in chosen}


def test_rates_are_shared_or_each_sources_own() -> None:
    """A source's rate becomes the method's own setting, so that it stands in records and hashes; a number stays one."""
    shared, source = planned("shared"), planned("source")
    assert shared["aesl"]["router"]["lr"] is None
    assert shared["mixlora"]["lora"]["lr"] == 5e-4
    assert (source["aesl"]["router"]["lr"], source["mixlora"]["lora"]["lr"]) == (1e-4, 2e-4)
    assert (source["ds-moe-dense"]["lora"]["lr"], source["ds-moe-dense"]["router"]["lr"]) == (3e-4, 3e-4)
    assert source["phatgoose"] == shared["phatgoose"]
    assert source["mixer"] == shared["mixer"]
    said = planned("source", ("methods.aesl.router.lr=0.003",))
    assert said["aesl[router.lr=0.003]"]["router"]["lr"] == 3e-3


@pytest.mark.parametrize("name", [name for name in registry.names() if registry.create(name).has_learning_rate()])
def test_every_card_names_its_sources_learning_rate(name: str) -> None:
    says = registry.card(name).body()
    assert "**Source's learning rate**" in says
    for key, rate in registry.method_class(name).source_rates.items():
        assert key in registry.config_keys(name)
        assert any(
            f"{rate:.0e}".replace("e-0", "e-") in line for line in says.splitlines() if "learning rate**" in line
        )


def test_a_fit_is_named_by_how_its_loss_is_weighed_and_no_others_are() -> None:
    """By tokens, as it was before there was a choice, a fit keeps its name; a search always does."""
    mixer, hub = registry.create("mixer"), registry.create("lorahub")
    settings = {by: resolve("quick", {}, [f"routers.weigh={by}"]) for by in ("tokens", "examples", "tasks")}
    found = {by: training_settings(one, mixer) for by, one in settings.items()}
    assert "weigh" not in found["tokens"]
    assert found["tasks"] == found["tokens"] | {"weigh": "tasks"}
    assert training_settings(resolve("quick", {}), mixer) == found["examples"]
    assert len({repr(training_settings(one, hub)) for one in settings.values()}) == 1
    assert training_settings(resolve("quick", {"tune": True}), mixer)["tuning"] == TUNING_VERSION


def test_the_best_trial_on_the_dev_part_is_kept() -> None:
    model = tiny_llama(dtype=torch.float64)
    method = registry.create("mixer")
    composed = method.install(model, tiny_experts(model), seed=0)
    sessions: list[Scaled] = []

    def session(scale: float) -> Any:
        sessions.append(Scaled(scale))
        return sessions[-1]

    best, trials = tuned_fit(method, composed, SCALES, session)
    assert [trial["scale"] for trial in trials] == list(SCALES)
    assert [trial["tokens"] for trial in trials] == [100] * 3
    losses = [trial["dev_loss"] for trial in trials]
    assert len(set(losses)) == 3
    assert best is sessions[losses.index(min(losses))]
    assert sessions[0].loss(composed, "dev", 64) == min(losses)


@pytest.mark.assets
@pytest.mark.model
def test_a_plan_gives_every_method_the_same(tiny_model: Path) -> None:
    """Pool, routing rows and the settings of optimisation are equal in the cells of all methods that use them."""
    from harness.planning.plan import Plan
    from harness.planning.sources import open_source

    values = {"methods": registry.names(), "tasks": ["sst2"], "model": {"name": str(tiny_model)}, "tune": True}
    plan = Plan(resolve("smoke", values), open_source("bundled"))
    specs = {cell.spec.method_name: cell.spec for cell in plan.cells}
    pool = specs["mixer"].pool
    assert len(pool) > 1
    settings: dict[str, Any] = {}
    for choice in plan.methods:
        spec, method = specs[choice.name], choice.method
        assert spec.pool == {name: pool[name] for name in method.depends_on(tuple(pool), "sst2")}
        assert spec.routing_fingerprint == (specs["mixer"].routing_fingerprint if method.trains() else None)
        for key, value in spec.training.items():
            assert settings.setdefault(key, value) == value, (choice.name, key)
        for budget in method.budgets():
            assert spec.training["tuning_scales"] == list(SCALES)
            section = spec.training if budget == "router" else spec.training["experts"]
            assert {"tokens", "epochs", "batch_size", "scheduler"} <= section.keys()
    assert "experts" in settings


@pytest.mark.assets
@pytest.mark.model
def test_trials_are_stored_and_counted(
    tiny_model: Path, tmp_path: Path, harness: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from results.store import RunFolder

    run = tmp_path / "run"
    monkeypatch.setattr(progress, "PLAIN_INTERVAL", 0.0)
    done = harness(
        *("run", "--methods", "base,lora,lorahub,mixer", "--tasks", "sst2", "--preset", "smoke", "--limit", "4"),
        *("--model", str(tiny_model), "--set", "experts.names=[sst2,mrpc,arc]", "--tune", "--output", str(run)),
        *("--set", "methods.lorahub.budget=6"),
        stages=tmp_path / "stages",
    )
    assert done.returncode == 0, done.stderr
    shares = [int(share) for share in re.findall(r"fit mixer.*: (\d+)% \(run: ", done.stderr)]
    assert len(shares) > len(SCALES)
    assert shares == sorted(set(shares)), "a trial's share is of all trials"
    assert (shares[0], shares[-1]) == (0, 100)
    records = {record.spec.method_name: record for record in RunFolder.open(run).records()}
    trials: dict[str, Any] = {name: record.extra["trials"] for name, record in records.items()}
    assert {name: len(found) for name, found in trials.items()} == {"base": 0, "lora": 0, "lorahub": 1, "mixer": 3}
    assert all(record.budget.tuning_trials == len(trials[name]) for name, record in records.items())
    assert [trial["scale"] for trial in trials["mixer"]] == list(SCALES)
    tokens = {trial["tokens"] for trial in trials["mixer"]}
    assert tokens == {records["mixer"].cost.tokens["fit"]}
    assert [entry["phase"] for entry in records["lorahub"].training_log].count("search") == 6
    text = next((run / "reports").glob("*.md")).read_text()
    assert "the best of 3 learning rates on the dev part for mixer" in text
    assert "one trial for lorahub" in text
    assert "which has no learning rate" in text
    expert = sum(records["lora"].parameters.stored.values())
    assert expert > 0
    assert f"the {expert:,} parameters of its experts were trained before" in text
