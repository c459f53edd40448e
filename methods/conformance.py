"""What every method must do, whatever it is: checks on tiny models, each an AssertionError with one sentence.

`harness check NAME` and the test suite run the same functions. They use the contract alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from methods import registry
from methods.base import Composed, Expert, Method, Unsupported
from methods.tiny import (
    ARCHITECTURES,
    TinyArchitecture,
    TinySession,
    generate,
    left_padded,
    model_logits,
    planned_pool,
    tiny_batch,
    tiny_comparison,
    tiny_experts,
    tiny_model,
    uneven_experts,
    window_gradient,
)

POOL = ("a", "b", "c", "d")
DIAGNOSTICS = {"load", "entropy", "variance", "own_expert_mass", "kept_mass", "logit_shift", "logit_std_initial"}


@dataclass(frozen=True)
class Subject:
    """A method under test: its name, the configuration values that deviate, and the tiny architecture it runs on."""

    name: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = "llama"

    def __str__(self) -> str:
        return f"{registry.display(self.name, self.overrides)} on {self.architecture}"

    @property
    def tiny(self) -> TinyArchitecture:
        """The architecture."""
        return ARCHITECTURES[self.architecture]

    def model(self, dtype: torch.dtype = torch.float64) -> Any:
        """A fresh base model."""
        return tiny_model(self.architecture, dtype=dtype)

    def method(self) -> Method:
        """The method, which accepts the tiny model and pool."""
        method = registry.create(self.name, self.overrides).within(tiny_comparison(POOL, targets=self.tiny.targets))
        method.check(self.tiny.known_config(), POOL)
        return method

    def experts(self, model: Any) -> list[Expert]:
        """Those of the pool that a task with own expert `a` depends on."""
        wanted = self.method().depends_on(POOL, POOL[0])
        return [expert for expert in tiny_experts(model, POOL) if expert.name in wanted]

    def install(self, model: Any = None, *, seed: int = 0) -> Composed:
        """The method installed on a model (a fresh one by default)."""
        model = self.model() if model is None else model
        return self.method().install(model, self.experts(model), seed=seed)

    def fitted(self) -> Composed:
        """Installed and fitted for a few steps; one for all checks, which leave it as it is."""
        return self._fitted

    @cached_property
    def _fitted(self) -> Composed:
        composed = self.install()
        self.method().fit(composed, TinySession())
        return composed


def architectures(name: str, overrides: Mapping[str, Any] | None = None) -> list[str]:
    """Names of the tiny architectures that a method supports with the usual pool."""
    found = []
    for architecture in ARCHITECTURES:
        try:
            Subject(name, dict(overrides or {}), architecture).method()
        except Unsupported:
            continue
        found.append(architecture)
    return found


def check(name: str, overrides: Mapping[str, Any] | None = None, architecture: str = "llama") -> None:
    """Run every check that can fail on an architecture and has not been run on another.

    Raises:
        AssertionError: one sentence for the first thing that is wrong.
        Unsupported: the method refuses the architecture.
    """
    subject = Subject(name, dict(overrides or {}), architecture)
    for one in CHECKS if architecture == "llama" else CHECKS_OF_AN_ARCHITECTURE:
        one(subject)


def card_agrees(subject: Subject) -> None:
    """The card says what the class does, and its text is there."""
    card, method = registry.card(subject.name), registry.create(subject.name)
    assert card.track == method.track, f"{subject}: the card says track {card.track}, the class {method.track}."
    needed = card.task_identity == "needed"
    assert needed == method.uses_task_identity, f"{subject}: card and class disagree on the task's identity."
    assert method.name == subject.name, f"{subject}: the method calls itself {method.name}."
    heading = f"# {subject.name}\n"
    assert card.body().startswith(heading), f"{subject}: the card's text does not begin with {heading.strip()!r}."
    # A method in a file of its own has a docstring, or it would not have been read.
    assert card.sha256 or len(card.body()) > 200, f"{subject}: the card's text is shorter than 200 characters."
    assert method.config == type(method.config).model_validate_json(method.config.model_dump_json()), (
        f"{subject}: the configuration does not survive JSON."
    )


def runs_and_reports_sizes(subject: Subject) -> None:
    """Composes, gives finite logits, and counts its parameters once each."""
    composed = subject.install()
    passes = subject.method().passes(len(composed.experts))
    assert passes == composed.passes, f"{subject}: the method says {passes} passes, the model {composed.passes}."
    out = logits(composed)
    assert bool(out.isfinite().all()), f"{subject}: logits are not finite."
    if composed.experts:
        assert composed.sites, f"{subject}: it has experts and no sites."
    parameters = [p for group in composed.groups().values() for p in group.values()]
    assert len({id(p) for p in parameters}) == len(parameters), f"{subject}: a parameter is in two groups."
    known = {id(p) for p in composed.model.parameters()}
    for group, members in composed.groups().items():
        assert members, f"{subject}: the group {group} is empty."
        if group != "loss":
            outside = [name for name, p in members.items() if id(p) not in known]
            assert not outside, f"{subject}: {outside[:1]} is trained but no parameter of the model."
    sizes = composed.stored().values()
    assert all(isinstance(n, int) and n > 0 for n in sizes), f"{subject}: stored counts are not positive."
    counted = composed.stored() or "experts" in composed.groups()
    assert counted or not composed.experts, f"{subject}: its experts are neither stored nor trained."


def is_counted_without_weights(subject: Subject) -> None:
    """Composes on the meta device, where tensors have shapes and no values, with the same counts."""
    from methods.counting import Count, Skeleton

    skeleton = Skeleton(subject.tiny.config(), targets=subject.tiny.targets, rank=4, pool=POOL)
    try:
        count = skeleton.count(registry.create(subject.name, subject.overrides))
    except (RuntimeError, NotImplementedError) as error:
        raise AssertionError(f"{subject}: composing looks at values of tensors, so it cannot be counted.") from error
    composed = subject.install()
    groups = {name: sum(p.numel() for p in group.values()) for name, group in composed.groups().items()}
    assert count == Count(groups, composed.stored(), passes=composed.passes), (
        f"{subject}: it is counted as {count} without weights."
    )


def starts_from_the_seed(subject: Subject) -> None:
    """One seed, one start, to the bit; and for every seed the same where the method says that it draws nothing."""
    one, two = (subject.install().state() for _ in range(2))
    assert one.keys() == two.keys(), f"{subject}: two installations have different states."
    for name, value in one.items():
        assert torch.equal(value, two[name]), f"{subject}: {name} does not follow from the seed."
    method = subject.method()
    assert method.seeded() or not method.trains(), f"{subject}: rows are drawn by seed for its fit: seeded() is true."
    if not method.seeded():
        first, second = (logits(subject.install(seed=seed)) for seed in (0, 1))
        assert torch.equal(first, second), f"{subject}: two seeds differ and seeded() is false."


def parameters_have_their_own_memory(subject: Subject) -> None:
    """No trained parameter is a view of another, of the base or of an expert, in the types that models have.

    A conversion copies and its absence does not, so what is sound in one type can be shared in another.
    """
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        model = subject.model(dtype)
        experts = subject.experts(model)
        taken = {p.untyped_storage().data_ptr(): name for name, p in model.named_parameters()}
        for expert in experts:
            for site, factors in expert.sites.items():
                for tensor in (factors.A, factors.B):
                    taken[tensor.untyped_storage().data_ptr()] = f"{expert.name}'s factor at {site}"
        composed = subject.method().install(model, experts, seed=0)
        for group in composed.groups().values():
            for name, parameter in group.items():
                place = parameter.untyped_storage().data_ptr()
                assert place not in taken, f"{subject}: {name} shares its memory with {taken[place]} in {dtype}."
                taken[place] = name


def trains_what_it_declares(subject: Subject) -> None:
    """Fitting changes the declared groups and nothing else; a method that trains nothing changes nothing."""
    model = subject.model()
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    method, pool = subject.method(), subject.experts(model)
    copies = [(f, f.A.clone(), f.B.clone()) for expert in pool for f in expert.sites.values()]
    composed = method.install(model, pool, seed=0)
    before, session = composed.state(), TinySession()
    method.fit(composed, session)
    after = composed.state()
    moved = {name for name, value in after.items() if name not in before or not torch.equal(value, before[name])}
    claim = method.trains()
    assert claim == bool(moved), f"{subject}: trains() is {claim} and fitting moved {len(moved)} values."
    for group in session.trained:
        names = composed.groups()[group].keys()
        assert moved & names, f"{subject}: the group {group} was trained and did not move."
    trained = {name for group in session.trained for name in composed.groups()[group]}
    frozen = {name for group in composed.groups().values() for name in group} - trained
    if session.trained:
        assert not moved & frozen, f"{subject}: {sorted(moved & frozen)[:1]} moved without being trained."
    composed.uninstall()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, base[name]), f"{subject}: the base's {name} changed."
    for factors, A, B in copies:
        assert torch.equal(factors.A, A), f"{subject}: an expert of the pool changed in place."
        assert torch.equal(factors.B, B), f"{subject}: an expert of the pool changed in place."


def survives_a_checkpoint(subject: Subject) -> None:
    """Saved and loaded into a fresh installation it gives the same logits, and refuses other states."""
    composed = subject.fitted()
    with tempfile.TemporaryDirectory() as folder:
        composed.save(Path(folder))
        again = subject.install()
        again.load(Path(folder))
    assert torch.equal(logits(composed), logits(again)), f"{subject}: logits differ after saving and loading."
    try:
        again.load_state({**composed.state(), "unknown": torch.zeros(1)})
    except KeyError:
        return
    raise AssertionError(f"{subject}: load_state accepts a name that it does not know.")


def trains_on_from_its_state(subject: Subject) -> None:
    """What is trained on elsewhere, from `state` alone, ends where it would have: a fit that is cut off goes on so."""
    states, pair = [], (subject.install(), subject.install())
    subject.method().fit(pair[0], TinySession(steps=1))
    pair[1].load_state(pair[0].state())
    for composed in pair:
        torch.manual_seed(0)
        subject.method().fit(composed, TinySession(steps=1))
        states.append(composed.state())
    lost = [name for name, value in states[0].items() if not torch.equal(value, states[1][name])]
    assert not lost, f"{subject}: state() lacks something that {lost[0]} is trained by."


def leaves_no_trace(subject: Subject) -> None:
    """Uninstalled, the base's logits, modules and gradient flags are as before, to the bit."""
    model = subject.model()
    expected, modules = logits(model), dict(model.named_modules())
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    composed = subject.install(model)
    subject.method().fit(composed, TinySession(steps=1))
    composed.uninstall()
    assert torch.equal(logits(model), expected), f"{subject}: the base's logits changed."
    assert dict(model.named_modules()) == modules, f"{subject}: a module was not put back."
    now = {name: p.requires_grad for name, p in model.named_parameters()}
    assert now == flags, f"{subject}: gradient flags of the base changed."
    hooks = [name for name, m in model.named_modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks, f"{subject}: a hook was left on '{hooks[0] if hooks else ''}'."


def text_does_not_depend_on_the_cache(subject: Subject) -> None:
    """Greedy texts with a cache equal those without, and logits do not depend on later tokens; or it says so."""
    composed = subject.fitted()
    model, context = composed.model, composed.context
    ids, mask = left_padded()
    with composed.task("a", own(composed)):
        if not composed.kv_cache:
            context.prompt_mask = mask.bool()
            text = generate(model, ids, mask, use_cache=False)
            context.prompt_mask = None
            config: Any = model.config
            given = 1 if config.is_encoder_decoder else ids.shape[1]
            assert text.shape[1] > given, f"{subject}: it generates nothing."
            return
        context.prompt_mask = mask.bool() if composed.whole_prompts else None
        with_cache, without = (generate(model, ids, mask, use_cache=cache) for cache in (True, False))
        assert torch.equal(with_cache, without), f"{subject}: greedy texts with and without a cache differ."
        context.prompt_mask = torch.ones(1, 5, dtype=torch.bool) if composed.whole_prompts else None
        with torch.no_grad():
            whole, cut = model_logits(model, ids[:1]), model_logits(model, ids[:1, :5])
        context.prompt_mask = None
    assert bool((whole[:, :5] - cut).abs().max() < 1e-6), f"{subject}: logits depend on later tokens."


def batching_changes_nothing(subject: Subject) -> None:
    """A sequence alone and left-padded in a batch has equal logits."""
    composed = subject.fitted()
    ids, mask = left_padded()
    model = composed.model
    with composed.task("a", own(composed)), torch.no_grad():
        together = model_logits(model, ids, mask)
        for row, length in enumerate(mask.sum(1).tolist()):
            alone = model_logits(model, ids[row : row + 1, -length:])[0]
            gap = (together[row, -length:] - alone).abs().max()
            assert bool(gap < 1e-5), f"{subject}: logits depend on the batch around a sequence."


def packs_if_it_says_so(subject: Subject) -> None:
    """Sequences laid end to end have the losses and gradients of a padded batch; or it does not pack, and `pads`."""
    pair, found = (subject.install(), subject.install()), []
    if not pair[0].packs or not pair[0].groups():
        assert subject.method().pads() or not (pair[0].groups() and subject.method().has_learning_rate()), (
            f"{subject}: it trains on padded batches and pads() is false, so its memory is estimated too low: say "
            "`packs = True` in its provider if that looks at tokens alone, or let pads() be true."
        )
        return
    subject.method().fit(pair[0], TinySession(steps=1))
    pair[1].load_state(pair[0].state())
    for composed, packed in zip(pair, (False, True), strict=True):
        parameters = {name: p.requires_grad_() for group in composed.groups().values() for name, p in group.items()}
        values = window_gradient(composed, [tiny_batch()[:3], tiny_batch()[3:]], packed=packed)
        gradients = {name: p.new_zeros(1) if p.grad is None else p.grad for name, p in parameters.items()}
        found.append(gradients | {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()})
    worst, where = max((float((value - found[1][name]).abs().max()), name) for name, value in found[0].items())
    assert worst < 1e-9, f"{subject}: it packs, and {where} is {worst:.1g} off its padded value."


def diagnostics_have_the_fields(subject: Subject) -> None:
    """Routing diagnostics are a record's fields or None, and gathering them changes no logit."""
    composed = subject.fitted()
    with composed.task("a", own(composed)):
        first, second = logits(composed), logits(composed)
        report = composed.diagnostics()
    assert torch.equal(first, second), f"{subject}: a second pass gives other logits."
    if report is None:
        return
    expected = {"experts", "modules", "per_module", *DIAGNOSTICS}
    assert report.keys() == expected, f"{subject}: diagnostics lack or add {sorted(report.keys() ^ expected)}."
    assert report["per_module"].keys() == DIAGNOSTICS, f"{subject}: per-module diagnostics have other fields."
    lengths = {len(values) for values in report["per_module"].values()}
    assert lengths == {len(report["modules"])}, f"{subject}: per-module diagnostics do not match the modules."
    assert len(report["load"]) == len(report["experts"]), f"{subject}: the load does not match the experts."


def says_which_pools_it_takes(subject: Subject) -> None:
    """The usual pool is taken, and one of unequal ranks and sites is, or is refused before it is installed."""
    model, method = subject.model(), subject.method()
    usual = tiny_experts(model, POOL)
    reason = method.takes(planned_pool(usual))
    assert reason is None, f"{subject}: `takes` refuses the usual pool ({reason})."
    wanted = method.depends_on(POOL, POOL[0])
    uneven = uneven_experts(usual)
    if method.takes(planned_pool(uneven)) is None:
        try:
            composed = method.install(model, [expert for expert in uneven if expert.name in wanted], seed=0)
        except Unsupported as error:
            raise AssertionError(f"{subject}: `takes` does not say of a pool what `install` does ({error})") from error
        composed.uninstall()


CHECKS: tuple[Callable[[Subject], None], ...] = (
    card_agrees,
    runs_and_reports_sizes,
    is_counted_without_weights,
    starts_from_the_seed,
    parameters_have_their_own_memory,
    trains_what_it_declares,
    survives_a_checkpoint,
    trains_on_from_its_state,
    leaves_no_trace,
    text_does_not_depend_on_the_cache,
    batching_changes_nothing,
    packs_if_it_says_so,
    diagnostics_have_the_fields,
    says_which_pools_it_takes,
)

# What the rest looks at (cards, seeds, files, diagnostics) is not the architecture's.
CHECKS_OF_AN_ARCHITECTURE: tuple[Callable[[Subject], None], ...] = (
    runs_and_reports_sizes,
    is_counted_without_weights,
    trains_what_it_declares,
    leaves_no_trace,
    text_does_not_depend_on_the_cache,
    batching_changes_nothing,
)


def logits(subject: Any) -> Tensor:
    """Logits `[8, 12, vocabulary]` of the usual batch, of a composed or a plain model."""
    model = subject.model if isinstance(subject, Composed) else subject
    batch = tiny_batch()
    with torch.no_grad():
        return model_logits(model, batch.input_ids, batch.attention_mask)


def own(composed: Composed) -> str | None:
    """The own expert of the task that is evaluated."""
    return POOL[0] if POOL[0] in composed.experts else None
