"""Every registered method does what all methods must do, and the suite notices one that does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods import conformance, registry
from methods.base import Composed, Expert, Unsupported
from methods.conformance import CHECKS, DIAGNOSTICS, Subject
from methods.mixer import Mixer
from methods.routing.composed import RoutedComposed
from results.schema import RoutingDiagnostics

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("mixer", {"router.scope": "shared_qkv", "router.bias": True, "router.tau_learn": True}),
    ("mixer", {"router.scope": "global", "route.dense": True, "route.jitter": 0.1}),
    ("mixer", {"loss.stats_scope": "accum", "loss.mi.coef": 0.1, "route.renorm": "none"}),
    ("mole", {"gate.form": "full", "gate.norm": "l2"}),
    ("mole", {"gate.form": "bottleneck", "masked": ["b"]}),
    ("mole", {"gate.form": "input", "gate.tau_learn": False}),
]


def supported() -> list[object]:
    """Every method on llama and, in turns, on a third of the other architectures it takes; the rest with `-m every`."""
    found = []
    for turn, name in enumerate(registry.names()):
        for place, on in enumerate(conformance.architectures(name)):
            usual = on == "llama" or (turn + place) % 3 == 0
            found.append(pytest.param(name, on, id=f"{name}-{on}", marks=() if usual else pytest.mark.every))
    return found


@pytest.mark.parametrize(("name", "architecture"), supported())
def test_conforms(name: str, architecture: str) -> None:
    conformance.check(name, architecture=architecture)


@pytest.mark.parametrize("name", registry.names())
def test_every_method_runs_on_every_transformer_with_attention(name: str) -> None:
    assert {"llama", "mistral", "qwen2", "qwen3"} <= set(conformance.architectures(name))


def test_an_architecture_that_a_method_refuses_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Mixer, model_config: Any, pool: Sequence[str]) -> None:
        if model_config.model_type == "qwen2":
            raise Unsupported("Not on this one.")

    monkeypatch.setattr(Mixer, "check", refuse)
    assert "qwen2" not in conformance.architectures("mixer")
    with pytest.raises(Unsupported):
        conformance.check("mixer", architecture="qwen2")


@pytest.mark.parametrize(("name", "overrides"), VARIANTS, ids=[registry.display(*variant) for variant in VARIANTS])
def test_variants_conform(name: str, overrides: dict[str, Any]) -> None:
    conformance.check(name, overrides)


def test_whole_prompt_weights_run_without_a_cache() -> None:
    """Weights that belong to a prompt depend on where it ends, so only the checks that give them one apply."""
    subject = Subject("mole", {"gate.scope": "prompt_mean"})
    assert not subject.install().kv_cache
    for one in CHECKS:
        if one is not conformance.batching_changes_nothing:
            one(subject)


def test_diagnostics_are_those_of_a_record() -> None:
    assert set(RoutingDiagnostics.model_fields) == {"experts", "modules", "per_module", *DIAGNOSTICS}


class Broken(Mixer):
    """A mixer with one fault, chosen by the test."""

    fault: Callable[[RoutedComposed], None]

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> RoutedComposed:
        composed = super().install(model, experts, seed=seed)
        type(self).fault(composed)
        return composed


def leave_a_hook(composed: RoutedComposed) -> None:
    composed.model.register_forward_hook(lambda *_: None)


def change_the_base(composed: RoutedComposed) -> None:
    with torch.no_grad():
        next(iter(composed.model.parameters())).add_(1e-3)


def change_an_expert(composed: RoutedComposed) -> None:
    site = next(iter(composed._routed.values()))
    assert site.factors[0] is not None
    site.factors[0].A.add_(1e-3)


def look_at_values(composed: RoutedComposed) -> None:
    site = next(iter(composed._routed.values()))
    assert site.factors[0] is not None
    assert site.factors[0].A.abs().max() > 0


def forget_the_seed(composed: RoutedComposed) -> None:
    with torch.no_grad():
        next(iter(composed.groups()["routers"].values())).uniform_()


def look_ahead(composed: RoutedComposed) -> None:
    layer: Any = composed.model.model.layers[0]  # type: ignore[union-attr,index]
    layer.register_forward_hook(lambda _m, _a, out: out + out.flip(1) if isinstance(out, Tensor) else out)


def save_nothing(composed: RoutedComposed) -> None:
    composed.state = dict  # type: ignore[method-assign]
    composed.load_state = lambda state: None  # type: ignore[method-assign]


def count_steps_in_secret(composed: RoutedComposed) -> None:
    steps: list[int] = []

    def end() -> None:
        steps.append(len(steps))
        with torch.no_grad():
            next(iter(composed.groups()["routers"].values())).mul_(1 + len(steps))

    composed.on_window_end = end  # type: ignore[method-assign]


def train_nothing(composed: RoutedComposed) -> None:
    for parameter in composed.groups()["routers"].values():
        parameter.register_hook(torch.zeros_like)


def pad_silently(composed: RoutedComposed) -> None:
    composed.packs = False


def report_oddly(composed: RoutedComposed) -> None:
    composed.diagnostics = lambda: {"load": []}  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("fault", "check", "message"),
    [
        (leave_a_hook, conformance.leaves_no_trace, "a hook was left"),
        (change_the_base, conformance.trains_what_it_declares, r"the base's .* changed"),
        (change_the_base, conformance.leaves_no_trace, "the base's logits changed"),
        (change_an_expert, conformance.trains_what_it_declares, "an expert of the pool changed"),
        (look_at_values, conformance.is_counted_without_weights, "looks at values of tensors"),
        (forget_the_seed, conformance.starts_from_the_seed, "does not follow from the seed"),
        (look_ahead, conformance.text_does_not_depend_on_the_cache, "texts with and without a cache differ"),
        (look_ahead, conformance.batching_changes_nothing, "depend on the batch"),
        (save_nothing, conformance.survives_a_checkpoint, "logits differ after saving"),
        (count_steps_in_secret, conformance.trains_on_from_its_state, r"state\(\) lacks something"),
        (train_nothing, conformance.trains_what_it_declares, r"trained and did not move"),
        (pad_silently, conformance.packs_if_it_says_so, r"trains on padded batches and pads\(\) is false"),
        (report_oddly, conformance.diagnostics_have_the_fields, "diagnostics lack or add"),
    ],
)
def test_the_suite_notices(
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[RoutedComposed], None],
    check: Callable[[Subject], None],
    message: str,
) -> None:
    monkeypatch.setattr(Broken, "fault", staticmethod(fault), raising=False)
    monkeypatch.setattr(registry, "method_class", lambda name: Broken)
    with pytest.raises(AssertionError, match=message):
        check(Subject("mixer"))


def test_the_suite_notices_a_lying_card(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lying(Mixer):
        track = "joint"

    monkeypatch.setattr(registry, "method_class", lambda name: Lying)
    with pytest.raises(AssertionError, match="the card says track compose"):
        conformance.check("mixer")


@pytest.mark.parametrize(
    ("reason", "message"),
    [(None, "`takes` does not say of a pool what `install` does .*LoRAHub adds"), ("no", "refuses the usual pool")],
)
def test_the_suite_notices_a_pool_that_is_refused_too_late_or_for_nothing(
    reason: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.method_class("lorahub"), "takes", lambda self, pool: reason)
    with pytest.raises(AssertionError, match=message):
        conformance.says_which_pools_it_takes(Subject("lorahub"))


def test_base_composes_nothing() -> None:
    composed: Composed = Subject("base").install()
    assert composed.groups() == {}
    assert composed.stored() == {}
    assert composed.diagnostics() is None
    assert composed.sites == {}


@pytest.mark.parametrize("name", [name for name in registry.names() if not registry.create(name).trains()])
def test_what_draws_and_fits_nothing_says_so(name: str) -> None:
    """Else seeds would be computed for nothing, and one would decide nothing."""
    subject = Subject(name)
    one, other = (conformance.logits(subject.install(seed=seed)) for seed in (0, 1))
    assert torch.equal(one, other) is not subject.method().seeded()


def test_the_suite_notices_a_seed_that_is_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    class Denying(Mixer):
        def seeded(self) -> bool:
            return False

    monkeypatch.setattr(registry, "method_class", lambda name: Denying)
    with pytest.raises(AssertionError, match=r"seeded\(\) is true"):
        conformance.starts_from_the_seed(Subject("mixer"))
