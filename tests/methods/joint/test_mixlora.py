"""MixLoRA: experts on feed-forward blocks, mixed at their output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from methods import conformance
from methods.agreements import agreed
from methods.base import Expert, SiteFactors, Unsupported
from methods.mixlora import BlockBalance, MixLoraLossConfig
from methods.routing.blocks import BlockComposed, install_blocks
from methods.routing.build import install_static
from methods.routing.config import RouterConfig
from methods.routing.context import RoutingContext
from methods.routing.ffn import PARTS, RoutedBlock
from methods.routing.providers import LinearRouter
from methods.routing.router import Record, Router
from methods.routing.sparsify import Sparsifier
from methods.routing.statistics import RoutingBatch
from methods.tiny import TinySession, tiny_batch, tiny_experts, tiny_llama, window_gradient

NAMES = ("a", "b", "c", "d")


class Block(nn.Module):
    """A gated feed-forward block, with biases."""

    def __init__(self, d: int = 16, ff: int = 24, *, bias: bool = True) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(d, ff, bias=bias), nn.Linear(d, ff, bias=bias)
        self.down_proj, self.act_fn = nn.Linear(ff, d, bias=bias), nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


def factors(linear: nn.Linear, n: int, rank: int = 3) -> list[SiteFactors]:
    return [
        SiteFactors(torch.randn(rank, linear.in_features), torch.randn(linear.out_features, rank) * 0.3, 2.0)
        for _ in range(n)
    ]


def expert_output(base: Any, own: dict[str, SiteFactors], x: Tensor) -> Tensor:
    """One expert's whole block, W2 and all."""

    def project(part: str, x: Tensor) -> Tensor:
        f = own[part]
        out: Tensor = getattr(base, part)(x) + f.scale * (x @ f.A.T @ f.B.T)
        return out

    return project("down_proj", base.act_fn(project("gate_proj", x)) * project("up_proj", x))


def pool_of_blocks(names: Sequence[str] = NAMES, *, model: Any = None, alike: bool = False) -> tuple[Any, list[Expert]]:
    model = tiny_llama(dtype=torch.float64) if model is None else model
    experts = tiny_experts(model, names, targets=PARTS)
    return model, [Expert(expert.name, experts[0].sites) for expert in experts] if alike else experts


def compose(model: Any, experts: Sequence[Expert], sparsifier: Sparsifier, *, std: float = 0.5) -> BlockComposed:
    def provider(name: str, linear: nn.Linear) -> LinearRouter:
        config = RouterConfig(init_std=std)
        return LinearRouter(len(experts), linear.in_features, config, name=name, seed=0, like=linear.weight)

    return install_blocks(model, experts, None, RoutingContext(), provider, sparsifier)


@pytest.mark.parametrize("sparsifier", [Sparsifier(2, 2), Sparsifier(1, 3, "none"), Sparsifier(None, None)])
@pytest.mark.parametrize("bias", [True, False])
def test_block_equals_a_loop_over_tokens_and_experts(
    sparsifier: Sparsifier, bias: bool, topk: Callable[..., Tensor]
) -> None:
    """Base products shared and W2 applied once give what every selected expert's whole block gives."""
    torch.manual_seed(0)
    base = Block(bias=bias).double()
    own = {part: factors(getattr(base, part), 4) for part in PARTS}
    own = {part: [SiteFactors(f.A.double(), f.B.double(), f.scale) for f in each] for part, each in own.items()}
    provider = LinearRouter(4, 16, RouterConfig(init_std=0.5), name="r", seed=0, like=base.gate_proj.weight)
    context = RoutingContext()
    block = RoutedBlock("mlp", base, own, provider, Router(["mlp"], [provider], sparsifier, context))
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    for training in (False, True):
        context.training = training
        k = sparsifier.most(4, training)
        w = topk((x @ provider.weight.T).softmax(-1).detach(), k, sparsifier.renorm)
        expected = torch.zeros_like(x)
        for row in range(2):
            for token in range(5):
                for n in w[row, token].nonzero().flatten().tolist():
                    each = {part: own[part][n] for part in PARTS}
                    expected[row, token] += w[row, token, n] * expert_output(base, each, x[row, token]).detach()
        assert (block(x) - expected).abs().max() < 1e-10


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_untrained_experts_are_the_base_to_the_bit(installed: Any, shake: Any, logits: Any, dtype: torch.dtype) -> None:
    """With B = 0 the block is the base's for any router, also where rounded weights do not sum to one."""
    model = tiny_llama(dtype=dtype)
    base = logits(model)
    composed = installed("mixlora", {"lora.targets": []}, model=model)
    shake(composed, "routers", std=1.0)
    assert torch.equal(logits(model), base)


def test_identical_experts_are_one_lora(logits: Any) -> None:
    """Any router over copies of one expert gives that expert, unless weights are not renormalised."""
    model, experts = pool_of_blocks(alike=True)
    single = install_static(model, experts[:1], lambda site: [1.0])
    expected = logits(model)
    single.uninstall()
    routed = compose(model, experts, Sparsifier(2, 2))
    assert (logits(model) - expected).abs().max() < 1e-10
    routed.uninstall()
    compose(model, experts, Sparsifier(2, 2, "none"))
    assert (logits(model) - expected).abs().max() > 1e-2


def test_a_single_expert_is_a_lora_on_the_block(logits: Any) -> None:
    model, experts = pool_of_blocks(["a"])
    single = install_static(model, experts, lambda site: [1.0])
    expected = logits(model)
    single.uninstall()
    compose(model, experts, Sparsifier(1, 1))
    assert (logits(model) - expected).abs().max() < 1e-10


def test_mixing_linear_layers_is_another_method(naive: Any, topk: Callable[..., Tensor], logits: Any) -> None:
    """Negative control: the same experts and weights applied to each linear layer give other logits, unless the
    experts are equal."""
    for alike in (False, True):
        model, experts = pool_of_blocks(alike=alike)
        composed = compose(model, experts, Sparsifier(2, 2))
        mixed = logits(model)
        rows = {name.removeprefix("routers."): p for name, p in composed.groups()["routers"].items()}
        latest: dict[str, Tensor] = {}

        def weigh(
            site: str,
            x: Tensor,
            _: list[Tensor],
            rows: dict[str, Tensor] = rows,
            latest: dict[str, Tensor] = latest,
        ) -> Tensor:
            block, _, part = site.rpartition(".")
            if part == "gate_proj":
                latest[block] = topk((x @ rows[f"{block}.weight"].T).softmax(-1), 2)
            return latest[block]

        gap = (logits(naive(experts, weigh)) - mixed).abs().max()
        assert gap < 1e-10 if alike else gap > 1e-2


def test_every_projection_is_alive(logits: Any) -> None:
    """B of any one projection of any expert, perturbed alone, changes the logits."""
    model, experts = pool_of_blocks()
    composed = compose(model, experts, Sparsifier(2, 2))
    plain = logits(model)
    assert len(composed.sites) == 2
    assert len(composed.groups()["experts"]) == 2 * 3 * 2 * len(NAMES)
    for name, parameter in composed.groups()["experts"].items():
        if name.endswith(".B"):
            with torch.no_grad():
                before = parameter.clone()
                parameter.add_(0.1)
                assert (logits(model) - plain).abs().max() > 1e-6, name
                parameter.copy_(before)
    assert torch.equal(logits(model), plain)


def balance(p: Tensor, k: int, *, concat: bool = False) -> float:
    """The loss of tokens with probabilities p `[G, tokens, N]` under top-k."""
    config = MixLoraLossConfig.model_validate({"aux": {"concat_layers": concat}, "stats_scope": "microbatch"})
    loss = BlockBalance(len(p), p.shape[-1], config, p, k)
    records = [Record(q.log()[None, :, None], Sparsifier(k, k)(q.log()[None, :, None], True)) for q in p]
    (term,) = loss(RoutingBatch(records, None), 1.0).values()
    assert term.coefficient == 0.01
    return float(term.value)


def test_balance_loss_at_its_ends() -> None:
    """k whenever the mean p is uniform, N when every token puts all its mass on the same k experts."""
    torch.manual_seed(0)
    N, k = 6, 2
    p = torch.rand(1, 60, N, dtype=torch.float64).softmax(-1)
    rotated = torch.cat([p.roll(shift, -1) for shift in range(N)], 1)
    assert rotated.mean((0, 1)).std() < 1e-12
    assert balance(rotated, k) == pytest.approx(k)
    picky = torch.full((1, 10, N), 1e-300, dtype=torch.float64)
    picky[..., :k] = 1 / k
    assert balance(picky, k) == pytest.approx(N)
    assert k < balance(p.sort(-1).values, k) < N


def test_one_layer_does_not_excuse_another() -> None:
    """Two layers that each use half of the experts are unbalanced, unless their tokens are concatenated."""
    p = torch.full((2, 8, 4), 1e-300, dtype=torch.float64)
    p[0, :, :2] = p[1, :, 2:] = 0.5
    assert balance(p, 2) == pytest.approx(4)
    assert balance(p, 2, concat=True) == pytest.approx(2)


def test_cutting_a_window_changes_no_gradient(installed: Any, shake: Any) -> None:
    gradients = []
    for size in (8, 2):
        composed = installed("mixlora", {"loss.aux.coef": 1.0, "router.init_std": 0.3})
        shake(composed, "experts", "attention")
        for group in composed.groups().values():
            for parameter in group.values():
                parameter.requires_grad_(True)
        for seed in (1, 0):  # the second window's balance is expanded at the first one's means
            composed.model.zero_grad()
            batch = tiny_batch(seed=seed)
            window_gradient(composed, [batch[start : start + size] for start in range(0, 8, size)])
            composed.on_window_end()
        gradients.append({name: p.grad for group in composed.groups().values() for name, p in group.items()})
    for name, gradient in gradients[0].items():
        assert gradient is not None, name
        assert (gradient - gradients[1][name]).abs().max() < 1e-12, name
    assert gradients[0].keys() == gradients[1].keys()


def test_trains_everything_at_one_rate(resolved: Any, installed: Any) -> None:
    method, composed = resolved("mixlora"), installed("mixlora")
    assert method.fit(composed, session := TinySession(steps=1)) is None
    assert session.trained == {"routers", "experts", "attention"}
    assert set(method.phase().lr.values()) == {1e-2}
    assert composed.diagnostics() is None
    sizes = {name: sum(p.numel() for p in group.values()) for name, group in composed.groups().items()}
    d, ff, r, N, layers = 32, 48, 4, 4, 2
    assert sizes["experts"] == layers * N * r * 3 * (d + ff)
    assert sizes["routers"] == layers * N * d
    assert sizes["attention"] == layers * r * (2 * (d + d) + 2 * (d + 16))
    expert = composed.expert("expert-2")
    assert len(expert.sites) == 6
    assert {f.scale for f in expert.sites.values()} == {2.0}


def test_variants_conform() -> None:
    conformance.check("mixlora", {"route.dense": True, "lora.targets": [], "n_experts": 2})
    conformance.check("mixlora", {"loss.stats_scope": "accum", "route.jitter": 0.1, "route.renorm": "none"})


def test_refusals(resolved: Any) -> None:
    from transformers import GPT2Config, MambaConfig

    for config in (MambaConfig(num_hidden_layers=2), GPT2Config(n_layer=2)):
        with pytest.raises(Unsupported, match=f"models of type {config.model_type} have none"):
            resolved("mixlora").check(config, NAMES)
    llama = tiny_llama().config
    with pytest.raises(Unsupported, match="already: leave it out"):
        resolved("mixlora", {"lora.targets": ["q_proj", "up_proj"]}).check(llama, NAMES)
    with pytest.raises(Unsupported, match="more than 2 experts but 2 experts"):
        resolved("mixlora", {"n_experts": 2}).check(llama, NAMES)
    with pytest.raises(ValueError, match=r"router\.scope"):
        resolved("mixlora", {"router.scope": "global"})


@pytest.mark.parametrize(("n_experts", "k"), [(4, 2), (6, 1), (6, 3)])
def test_agrees_with_the_authors_layer(n_experts: int, k: int) -> None:
    """The released package's block on equal weights gives the same output and gradient of the input, in float32."""
    config_module, layer, linear = (
        pytest.importorskip(f"mixlora.{name}") for name in ("config", "model", "lora_linear")
    )
    names = [str(n) for n in range(n_experts)]
    model, experts = pool_of_blocks(names, model=tiny_llama())
    mlp = model.model.layers[0].mlp
    settings = {"base_model_name_or_path": "", "task_type": "CAUSAL_LM", "peft_type": "MIXLORA", "act_fn": "silu"}
    settings |= {"r": 4, "lora_alpha": 8, "lora_dropout": 0.05, "target_modules": list(PARTS)}
    settings |= {"routing_strategy": "mixlora", "num_experts": n_experts, "top_k": k}
    config = config_module.MixLoraConfig.from_config(settings)
    config.model_type_, config.dtype_ = "llama", torch.float32
    theirs = layer.MixLoraSparseMoe(mlp, config)
    for part in PARTS:
        for n, expert in enumerate(experts):
            f = expert.sites[f"model.layers.0.mlp.{part}"]
            # The package wants a dropout above zero, which evaluation mode switches off.
            theirs.experts_[f"experts.{n}.{part}"] = linear.LoraLinear(getattr(mlp, part), config, (f.A, f.B)).eval()
    ours = compose(model, experts, Sparsifier(k, k))
    theirs.gate_ = ours.blocks[0].provider.weight.detach()
    x = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(1))
    agreement, goal = agreed("mixlora", "mixlora"), torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    x.requires_grad_()
    expected, found = theirs.forward(x.clone()), ours.blocks[0](x)
    assert (found - expected).abs().max() < agreement.output
    assert (expected - mlp(x)).abs().max() > 0.1
    gradients = [torch.autograd.grad((output * goal).sum(), x)[0] for output in (found, expected)]
    assert (gradients[0] - gradients[1]).abs().max() < agreement.gradient
