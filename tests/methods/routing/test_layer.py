"""The routed layer against a loop over experts, and what must hold whatever the routers do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods import registry
from methods.agreements import agreed
from methods.base import Expert, SiteFactors
from methods.mixer import Mixer
from methods.routing.build import Routing, install_hard, install_routed, install_static
from methods.routing.composed import RoutedComposed
from methods.routing.config import RouteConfig, RouterConfig
from methods.routing.context import RoutingContext
from methods.routing.linear import RoutedLinear
from methods.routing.providers import LinearRouter
from methods.routing.sparsify import DENSE, Sparsifier
from methods.tiny import tiny_batch, tiny_experts, tiny_llama

Logits = Callable[..., Tensor]
NAMES = ("a", "b", "c", "d", "e", "f")
TIGHT = 1e-10


def mixer(overrides: dict[str, Any] | None = None, *, fuse: bool = True) -> Mixer:
    method = registry.create("mixer", {"router.init_std": 0.5, **(overrides or {})})
    assert isinstance(method, Mixer)
    method.fuse = fuse
    return method


def uneven(experts: Sequence[Expert]) -> list[Expert]:
    """Unequal ranks and scales, and sites that some experts lack."""
    changed = []
    for number, expert in enumerate(experts):
        sites = {
            path: SiteFactors(f.A[: 4 - number % 3], f.B[:, : 4 - number % 3], f.scale * (1 + number / 4))
            for index, (path, f) in enumerate(expert.sites.items())
            if (index + number) % 5
        }
        changed.append(Expert(expert.name, sites))
    return changed


SCOPES = ("per_projection", "shared_qkv", "per_layer", "global")
OPTIONS: list[dict[str, Any]] = [
    {},
    {"route.renorm": "none"},
    {"route.dense": True},
    {"router.bias": True, "router.tau": 0.7},
    {"router.tau_learn": True, "router.tau": 2.0},
    {"router.input_norm": "rms"},
    *({"router.scope": scope} for scope in SCOPES[1:]),
]


def weigh_linear(composed: RoutedComposed, overrides: dict[str, Any], topk: Callable[..., Tensor]) -> Any:
    """Weights by the router's own definition, with a memory for shared scopes."""
    parameters = composed.groups()["routers"]
    scope = overrides.get("router.scope", "per_projection")
    first: dict[str, tuple[str, Tensor]] = {}

    def weigh(path: str, x: Tensor, deltas: list[Tensor]) -> Tensor:
        layer, leaf = path.split(".self_attn.")
        owner = path
        if scope == "shared_qkv" and leaf != "o_proj":
            owner = f"{layer}.self_attn.q_proj"
        if scope in ("per_layer", "global"):
            if leaf == "q_proj":
                first[layer] = (path, x)
            owner, x = first[layer]
            owner = "model.layers.0.self_attn.q_proj" if scope == "global" else owner
        if overrides.get("router.input_norm") == "rms":
            x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        raw = x @ parameters[f"routers.{owner}.weight"].T
        raw = raw + parameters.get(f"routers.{owner}.bias", torch.zeros(()))
        log_tau = parameters.get(f"routers.{owner}.log_tau")
        tau = overrides.get("router.tau", 1.0) if log_tau is None else log_tau.exp()
        p = (raw / tau).softmax(-1)
        return p if overrides.get("route.dense") else topk(p, 3, overrides.get("route.renorm", "sum"))

    return weigh


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize("change", [list, uneven], ids=["even", "uneven"])
@pytest.mark.parametrize("overrides", OPTIONS, ids=lambda o: next(iter(o), "default"))
def test_linear_routing_equals_the_loop(
    overrides: dict[str, Any], change: Any, fuse: bool, naive: Any, topk: Any, logits: Logits
) -> None:
    """The two-product forward equals the loop over experts, for every scope and option of the router."""
    model = tiny_llama(dtype=torch.float64)
    experts = change(tiny_experts(model, NAMES))
    composed = mixer(overrides, fuse=fuse).install(model, experts, seed=0)
    with torch.no_grad():  # routers as if trained, so that biases and temperatures differ
        for index, parameter in enumerate(composed.groups()["routers"].values()):
            parameter += 0.1 * torch.linspace(-1, 1, parameter.numel()).view_as(parameter) * (-1) ** index
    expected = logits(naive(experts, weigh_linear(composed, overrides, topk)))
    assert (logits(model) - expected).abs().max() < TIGHT
    batch = tiny_batch()
    with_graph = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    assert with_graph.requires_grad
    assert (with_graph - expected).abs().max() < TIGHT


def test_fixed_weights_equal_the_loop(naive: Any, logits: Logits) -> None:
    """The two-product forward equals the loop for static and for hard weights, with unequal experts."""
    weights = torch.tensor([0.5, 0.0, -0.25, 0.0, 1.0, 0.125], dtype=torch.float64)
    model = tiny_llama(dtype=torch.float64)
    experts = uneven(tiny_experts(model, NAMES))
    static = install_static(model, experts, lambda site: weights.tolist())
    expected = logits(naive(experts, lambda path, x, deltas: weights.expand(*x.shape[:2], 6)))
    assert (logits(model) - expected).abs().max() < TIGHT
    static.uninstall()

    domain = tiny_batch().domain
    for train in (True, False):
        hard = install_hard(model, experts, train_experts=train)
        hard.context.training, hard.context.domain = True, domain
        one_hot = nn.functional.one_hot(domain, 6).double()
        expected = logits(naive(experts, lambda path, x, deltas, w=one_hot: w[:, None].expand(*x.shape[:2], 6)))
        assert (logits(model) - expected).abs().max() < TIGHT
        with hard.task("c", "c"):
            chosen = logits(model)
        only = nn.functional.one_hot(torch.tensor(2), 6).double()
        expected = logits(naive(experts, lambda path, x, deltas, w=only: w.expand(*x.shape[:2], 6)))
        assert (chosen - expected).abs().max() < TIGHT
        hard.context.domain = None
        with pytest.raises(RuntimeError, match="hard routing needs the task's own expert"):
            logits(model)
        hard.uninstall()


def test_random_routing_equals_the_loop(naive: Any, topk: Any, logits: Logits) -> None:
    """The two-product forward equals the loop for the random router, whose logits are taken as they are."""
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model, NAMES)
    composed = registry.create("random").install(model, experts, seed=0)
    assert isinstance(composed, RoutedComposed)
    ours = logits(model)
    providers = {name: p for router in composed.routers for name, p in zip(router.names, router.providers, strict=True)}
    slow = naive(experts, lambda path, x, deltas: topk(providers[path](x, x).softmax(-1), 3))
    assert (ours - logits(slow)).abs().max() < TIGHT


def test_fused_and_plain_agree_in_float32(logits: Logits) -> None:
    """The shared shrink with router rows below A changes nothing but rounding."""
    experts = tiny_experts(tiny_llama(), NAMES)
    results = []
    for fuse in (True, False):
        model = tiny_llama()
        mixer(fuse=fuse).install(model, experts, seed=0)
        results.append(logits(model))
    scale = results[1].abs().max()
    assert (results[0] - results[1]).abs().max() <= 1e-6 * scale


def test_fused_rows_follow_the_routers(logits: Logits) -> None:
    """Prepared router rows are refreshed when routers are trained, loaded or set in place."""
    model = tiny_llama(dtype=torch.float64)
    composed = mixer().install(model, tiny_experts(model, NAMES), seed=0)
    before, state = logits(model), composed.state()
    with torch.no_grad():
        for parameter in composed.groups()["routers"].values():
            parameter.neg_()
    assert (logits(model) - before).abs().max() > 1e-3
    composed.load_state(state)
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("options", OPTIONS)
def test_no_way_of_running_changes_the_output(options: dict[str, Any]) -> None:
    """Evaluation takes the shortest way, diagnostics see initial logits too, and gradients need separate products."""
    model = tiny_llama(dtype=torch.float64)
    equal = {"route.train_k": 3, "route.eval_k": 3, **options}
    composed = mixer(equal).install(model, uneven(tiny_experts(model, NAMES)), seed=0)
    ids = tiny_batch().input_ids
    with torch.no_grad():
        short = model(input_ids=ids).logits
        composed.context.collect = True
        seen = model(input_ids=ids).logits
        composed.context.collect, composed.context.training = False, True
        recorded = model(input_ids=ids).logits
    differentiated = model(input_ids=ids).logits
    composed.uninstall()
    assert (short - model(input_ids=ids).logits).abs().max() > 1e-3
    for other in (seen, recorded, differentiated):
        assert (short - other).abs().max() < TIGHT


def test_half_precision_routes_in_float32(logits: Logits) -> None:
    """Router logits and softmax are float32 in a bfloat16 model; weights are cast back."""
    model = tiny_llama(dtype=torch.bfloat16)
    composed = mixer().install(model, tiny_experts(model, NAMES), seed=0)
    assert {p.dtype for p in composed.groups()["routers"].values()} == {torch.float32}
    composed.context.training = True
    assert logits(model).dtype == torch.bfloat16
    for router in composed.routers:
        assert router.record is not None
        assert router.record.logits.dtype == router.record.w.dtype == torch.float32
        assert (router.record.w.sum(-1) - 1).abs().max() < 1e-6


def single_site(n: int, *, sparsifier: Sparsifier = DENSE, change: Any = None) -> tuple[nn.Linear, Any, list[Expert]]:
    """One linear layer as a model, with experts on it and a linear router."""

    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj = nn.Linear(16, 24, dtype=torch.float64)

        def forward(self, input_ids: Tensor) -> Tensor:
            return self.proj(input_ids)

    torch.manual_seed(0)
    model = One()
    experts = tiny_experts(model, NAMES[:n], targets=["proj"])
    experts = experts if change is None else change(experts)
    base = model.proj

    def provider(name: str, site: RoutedLinear) -> LinearRouter:
        return LinearRouter(n, 16, RouterConfig(init_std=0.5), name=name, seed=1, like=site.weight)

    context = RoutingContext()
    install_routed(model, experts, context, Routing(provider, sparsifier))
    return base, model, experts


X = torch.randn(3, 5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def lora(base: nn.Linear, expert: Expert, x: Tensor = X) -> Tensor:
    factors = expert.sites["proj"]
    return base(x) + factors.scale * (x @ factors.A.T @ factors.B.T)


def test_one_expert_is_that_lora() -> None:
    """N=1, k=1 is exactly W + sBA."""
    base, model, experts = single_site(1, sparsifier=Sparsifier(1, 1))
    assert (model(X) - lora(base, experts[0])).abs().max() < TIGHT


@pytest.mark.parametrize("chosen", [0, 3])
def test_one_hot_weights_are_that_lora(chosen: int, logits: Logits) -> None:
    """One-hot weights give that LoRA."""
    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model, NAMES)
    alone = install_static(model, [experts[chosen]], lambda site: [1.0])
    expected = logits(model)
    alone.uninstall()
    install_static(model, experts, lambda site: [float(n == chosen) for n in range(6)])
    assert (logits(model) - expected).abs().max() < TIGHT


@pytest.mark.parametrize("name", ["uniform", "random", "mixer", "mole"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_untrained_experts_change_no_bit(name: str, dtype: torch.dtype, logits: Logits) -> None:
    """B=0 gives the base's logits bit for bit."""
    model = tiny_llama(dtype=dtype)
    expected = logits(model)
    silent = [
        Expert(e.name, {p: SiteFactors(f.A, torch.zeros_like(f.B), f.scale) for p, f in e.sites.items()})
        for e in tiny_experts(model, NAMES)
    ]
    registry.create(name).install(model, silent, seed=0)
    assert torch.equal(logits(model), expected)


def identical(experts: list[Expert]) -> list[Expert]:
    return [Expert(expert.name, experts[0].sites) for expert in experts]


def test_identical_experts_are_that_lora() -> None:
    """With renormalisation any router gives the one expert; without, its kept mass (negative control)."""
    base, model, experts = single_site(6, sparsifier=Sparsifier(3, 3), change=identical)
    expected = lora(base, experts[0])
    assert (model(X) - expected).abs().max() < TIGHT

    base, model, experts = single_site(6, sparsifier=Sparsifier(3, 3, "none"), change=identical)
    difference = (model(X) - expected).abs().max()
    assert difference > 1e-2
    mass = (X @ model.proj.provider.weight.T).softmax(-1).sort(-1, descending=True).values[..., :3].sum(-1)
    assert mass.max() < 0.999
    scaled = base(X) + mass.unsqueeze(-1) * (expected - base(X))
    assert (model(X) - scaled).abs().max() < TIGHT


def test_uniform_weights_are_the_mean_update(logits: Logits, tmp_path: Any) -> None:
    """Uniform dense weights are the mean update, which is PEFT's `cat` merge with weights 1/N."""
    from peft import PeftModel

    from methods.experts import save_expert

    model = tiny_llama(dtype=torch.float64)
    experts = tiny_experts(model, NAMES)
    registry.create("uniform").install(model, experts, seed=0)
    ours = logits(model)

    mean = tiny_llama(dtype=torch.float64)
    for path in experts[0].sites:
        updates = [e.sites[path].scale * e.sites[path].B @ e.sites[path].A for e in experts]
        mean.get_submodule(path).weight.data += torch.stack(updates).mean(0)
    assert (ours - logits(mean)).abs().max() < TIGHT

    for expert in experts:
        save_expert(
            expert, tmp_path / expert.name, base_model="tiny", target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]
        )
    wrapped = PeftModel.from_pretrained(tiny_llama(dtype=torch.float64), str(tmp_path / "a"), adapter_name="a")
    for name in NAMES[1:]:
        wrapped.load_adapter(str(tmp_path / name), adapter_name=name)
    wrapped.add_weighted_adapter(list(NAMES), [1 / 6] * 6, "mean", combination_type="cat")
    wrapped.set_adapter("mean")
    assert (ours - logits(wrapped)).abs().max() < agreed("uniform", "peft").output


def test_permuting_experts_and_rows_changes_nothing(logits: Logits) -> None:
    """A joint permutation leaves outputs, balance, entropy and mutual information unchanged."""
    order = [3, 0, 5, 1, 4, 2]
    outcomes = []
    for permutation in (list(range(6)), order):
        model = tiny_llama(dtype=torch.float64)
        experts = tiny_experts(model, NAMES)
        method = mixer({"loss.mi.coef": 1.0, "loss.warmup_frac": 0.0, "loss.stats_scope": "microbatch"})
        composed = method.install(model, [experts[n] for n in permutation], seed=0)
        with torch.no_grad():
            for parameter in composed.groups()["routers"].values():
                parameter.copy_(parameter[permutation])
        composed.context.training = True
        out = logits(model)
        outcomes.append((out, {name: term.value for name, term in composed.losses().items()}))
    assert (outcomes[0][0] - outcomes[1][0]).abs().max() < TIGHT
    assert outcomes[0][1].keys() == {"aux", "entropy", "mi"}
    for name, value in outcomes[0][1].items():
        assert (value - outcomes[1][1][name]).abs() < TIGHT, name


def test_unselected_logits_get_no_task_gradient() -> None:
    """With renormalisation and k < N, unselected logits get exactly zero, each token's gradients sum to 0."""
    logits = torch.randn(40, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weights = Sparsifier(3, 3)(logits, training=True)
    values = torch.randn(40, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (weights * values).sum().backward()
    assert logits.grad is not None
    kept = weights > 0
    assert (kept.sum(-1) == 3).all()
    assert logits.grad[~kept].abs().max() == 0
    assert logits.grad[kept].abs().min() > 0
    assert logits.grad.sum(-1).abs().max() < 1e-12
    assert (weights.sum(-1) - 1).abs().max() < 1e-12


@pytest.mark.parametrize("k", [1, 2, 3])
def test_straight_through_keeps_the_weights_and_has_the_gradient_of_p(k: int) -> None:
    """Forward values are those of the renormalised top-k to the bit; the gradient is that of the kept p, undivided."""
    logits = torch.randn(40, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    values = torch.randn(40, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    plain, through = Sparsifier(k, k), Sparsifier(k, k, straight_through=True)
    weights = through(logits, training=True)
    assert torch.equal(weights, plain(logits, training=True))
    assert torch.equal(through(logits, training=False), plain(logits, training=False))
    (found,) = torch.autograd.grad((weights * values).sum(), logits)
    p = logits.softmax(-1)
    (expected,) = torch.autograd.grad((torch.where(weights > 0, p, 0.0) * values).sum(), logits)
    assert torch.equal(found, expected)
    assert found.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("settings", "through"),
    [
        ({"train_k": 1}, True),
        ({"train_k": 1, "renorm": "none"}, False),
        ({"train_k": 1, "dense_train": True}, False),
        ({"train_k": 1, "straight_through": False}, False),
        ({"train_k": 2}, False),
        ({"train_k": 2, "straight_through": True}, True),
    ],
)
def test_top_1_has_a_gradient_unless_it_is_refused_one(settings: dict[str, Any], through: bool) -> None:
    assert RouteConfig(**settings).sparsifier().straight_through == through


def test_renormalised_topk_is_softmax_of_kept_logits(topk: Any) -> None:
    """Dividing by the kept mass equals a softmax over the kept logits; training and inference k differ."""
    logits = torch.randn(50, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    sparsifier = Sparsifier(train_k=None, eval_k=2)
    assert (sparsifier(logits, False) - topk(logits.softmax(-1), 2)).abs().max() < 1e-12
    assert torch.equal(sparsifier(logits, True), logits.softmax(-1))
