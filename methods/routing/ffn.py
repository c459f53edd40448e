"""Feed-forward blocks with LoRA experts that are mixed at the block's output (MixLoRA, arXiv 2404.15159)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.base import SiteFactors, Unsupported
from methods.routing.factors import TrainableFactors, shrunk
from methods.routing.frozen import dense_bias, weight_like
from methods.routing.probe import evaluating, summing_to_one
from methods.routing.providers import Provider
from methods.routing.router import Router
from methods.routing.tokens import in_sequences, in_towers, towers
from methods.seeding import drawing_from, generator

PARTS = ("gate_proj", "up_proj", "down_proj")
_NARROW = 4
_ACTIVATIONS = ("act_fn", "activation_fn", "act")


@dataclass(frozen=True)
class Form:
    """A way of writing a feed-forward block down.

    Attributes:
        inner: its projections of the input: gate and up, both in one, or an ungated one.
        outer: its projection of what comes of them.
        gated: whether the second half is multiplied with the activated first.
    """

    inner: tuple[str, ...]
    outer: str
    gated: bool = True

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of all its projections."""
        return (*self.inner, self.outer)

    def combine(self, base: Any, projected: Sequence[Tensor]) -> Tensor:
        """What the outer projection is given, `[..., ff]`, from the inner ones' outputs."""
        act = next(getattr(base, name) for name in _ACTIVATIONS if hasattr(base, name))
        if not self.gated:
            return act(projected[0])
        gate, up = projected if len(projected) == 2 else projected[0].chunk(2, -1)
        return act(gate) * up


FORMS = (Form(PARTS[:2], PARTS[2]), Form(("gate_up_proj",), "down_proj"), Form(("fc1",), "fc2", gated=False))
"""Llama and most others; Phi-3, GLM; Phi. What a block of these parts computes is tried out, see `check_form`."""
BLOCK_PARTS = frozenset(part for form in FORMS for part in form.parts)


def form_of(module: nn.Module) -> Form | None:
    """The form whose parts are all linear layers of a module, below which there are no others; None without any."""
    linear = {path for path, part in module.named_modules() if isinstance(part, nn.Linear)}
    active = any(hasattr(module, name) for name in _ACTIVATIONS)
    return next((form for form in FORMS if active and linear == set(form.parts)), None)


def feedforward_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Blocks whose parts are those of one of `FORMS`, by module path, in the model's order; towers are left out."""
    outside = towers(model)
    return {
        path: module
        for path, module in model.named_modules()
        if form_of(module) is not None and not in_towers(path, outside)
    }


def computes_its_form(module: nn.Module) -> bool | None:
    """Whether a narrow copy of a block with random weights computes what its form says; None if none can be tried.

    It needs no weights, so that a base model can be refused before it is loaded; `check_form` looks at the block.
    """
    form, small = form_of(module), copy.deepcopy(module)
    assert form is not None
    with drawing_from(0), torch.no_grad():
        for part in form.parts:
            linear: Any = getattr(module, part)
            into, out = (linear.in_features, _NARROW) if part == form.outer else (_NARROW, linear.out_features)
            setattr(small, part, nn.Linear(into, out, bias=linear.bias is not None, device="cpu"))
        for inner in small.modules():
            kept: Any
            for kept in (inner._parameters, inner._buffers):
                for name, tensor in kept.items():
                    if tensor is not None and tensor.is_meta:
                        kept[name] = nn.Parameter(torch.rand(tensor.shape, device="cpu") + 0.5, requires_grad=False)
        x = torch.randn(2, 3, _NARROW, device="cpu")
        try:
            found = small.eval()(x)
        except Exception:  # whatever a copy of another width cannot do
            return None
        outer: nn.Module = getattr(small, form.outer)
        return torch.equal(found, outer(form.combine(small, [getattr(small, part)(x) for part in form.inner])))


def check_form(path: str, base: Any, block: RoutedBlock) -> None:
    """Compare a block whose experts are untrained with the base's own, on random inputs, to the bit.

    Its weights sum to one meanwhile, since others scale the base by what they sum to.

    Raises:
        Unsupported: it computes something else than its parts' names say.
    """
    weight: Tensor = block.weight
    if weight.is_meta:
        return
    x = torch.randn(2, 3, weight.shape[1], generator=generator("probe", path)).to(weight.device, weight.dtype)
    with evaluating(block), summing_to_one([block.router]), torch.no_grad():
        try:
            same = torch.equal(base(x), block(x))
        except TypeError:  # it takes more than an input
            same = False
    if not same:
        raise Unsupported(
            f"The feed-forward block {path} ({type(base).__name__}) has {', '.join(block.form.parts)} but does not "
            "compute what blocks of these parts do: choose another base model."
        )


class RoutedBlock(nn.Module):
    """A feed-forward block with N experts. Shapes: input and output `[b, t, d]`, or `[b * t, d]` between experts.

        E_n(x) = (W2 + D2_n) z_n(x),   z_n(x) = act((W1 + D1_n) x) * (W3 + D3_n) x,   D = s B A
        y = sum_n w_n(x) E_n(x)

    over the k experts of each token (without the factor W3 in blocks that have no gate). W1 x and W3 x are computed
    once, and since W2 is linear, so is W2 sum_n w_n z_n: no weight of the base is copied and its products cost what
    they cost without experts. The factors of all experts are one matrix; each of a token's k places keeps its own
    expert's part of the shrunk input.
    """

    trainable, factors = None, ()  # what a handle counts of single sites

    def __init__(
        self,
        name: str,
        base: Any,
        experts: Mapping[str, Sequence[SiteFactors]],
        provider: Provider,
        router: Router,
        *,
        dropout: float = 0.0,
        masks_each: bool = False,
        update_only: bool = False,
    ) -> None:
        """Args:
        name: module path of the block.
        base: the frozen block, untouched.
        experts: factors of all experts by part (see `Form`).
        provider: the block's router, registered here so that its parameters belong to the model.
        router: gives the weights.
        dropout: on the input of each A in training.
        masks_each: whether every expert has a mask of its own on the block's input, instead of one for all. On the
            input of the last projection each has its own in any case, since these inputs differ.
        update_only: whether weights scale what an expert adds to the base's output and leave that whole,
            `E(x) + sum_n w_n (E_n(x) - E(x))`; the same where they sum to one.
        """
        super().__init__()
        self.name = name
        self.base = base
        form = form_of(base)
        assert form is not None
        self.form = form
        self.bypassed = False
        self.side: Any = None
        self.provider = provider
        self.dropout = dropout
        self.masks_each = masks_each
        self.update_only = update_only
        self.parts = nn.ModuleDict(
            {part: TrainableFactors(experts[part], weight_like(getattr(base, part))) for part in form.parts}
        )
        self.n_experts = len(experts[form.outer])
        # Inside a tuple: not a module, and shared with the handle.
        self._router = (router,)
        self.train(base.training)

    @property
    def weight(self) -> Tensor:
        """For code that looks at a frozen weight's type, shape or device, see `weight_like`."""
        return weight_like(getattr(self.base, self.form.inner[0]))

    @property
    def router(self) -> Router:
        """What gives the weights."""
        return self._router[0]

    def trained(self, experts: Sequence[str]) -> dict[str, nn.Parameter]:
        """Parameters of the experts by name."""
        return {
            f"experts.{expert}.{self.name}.{part}.{side}": parameter
            for part, factors in self._parts()
            for index, expert in enumerate(experts)
            for side, parameter in (("A", factors.A[index]), ("B", factors.B[index]))
        }

    def expert(self, index: int) -> dict[str, SiteFactors]:
        """Copies of one expert's factors by site."""
        found = {f"{self.name}.{part}": factors.expert(index) for part, factors in self._parts()}
        return {path: factors for path, factors in found.items() if factors is not None}

    def forward(self, x: Tensor) -> Tensor:
        """The mixed output."""
        if self.bypassed:
            return self.base(x)
        tokens = in_sequences(x, self.side, self.name)
        return self._mixed(tokens).view(*x.shape[:-1], -1)

    def _mixed(self, x: Tensor) -> Tensor:
        base, form = self.base, self.form
        projected = [getattr(base, part)(x) for part in form.inner]
        router = self.router
        w = router.weights(x, x.new_empty(*x.shape[:-1], 1, self.n_experts, 0)).squeeze(-2)
        kept, index = w.topk(router.sparsifier.most(self.n_experts, router.context.training), -1)
        kept = kept.to(x.dtype).unsqueeze(-1)
        chosen = F.one_hot(index, self.n_experts).to(x.dtype).unsqueeze(-1)

        each = [y.unsqueeze(-2) + self._update(part, x, chosen) for part, y in zip(form.inner, projected, strict=True)]
        z, plain = form.combine(base, each), form.combine(base, projected)
        # Differences from the base's own z are weighted, not z itself: weights that are rounded do not scale the base.
        share = ((z - plain.unsqueeze(-2)) * kept).sum(-2)
        mass = None if self.update_only or router.sparsifier.renorm == "sum" else kept.sum(-2)
        outer = getattr(base, form.outer)
        y: Tensor = outer(share + (plain if mass is None else plain * mass))
        if mass is not None and (bias := dense_bias(outer)) is not None:
            y = y + (mass - 1) * bias
        A, B = self._stacked(form.outer, x.dtype)
        h = F.linear(self._dropped(z * kept), A).unflatten(-1, (self.n_experts, -1))
        return y + F.linear((h * chosen).sum(-3).flatten(-2), B)

    def _update(self, part: str, x: Tensor, chosen: Tensor) -> Tensor:
        """`s B_n A_n x` of the expert n at each place, `[b, t, k, ff]`."""
        A, B = self._stacked(part, x.dtype)
        dropout = self.dropout if self.training else 0.0
        h = (
            shrunk(x, A, self.n_experts, dropout, each=self.masks_each)
            .unflatten(-1, (self.n_experts, -1))
            .unsqueeze(-3)
        )
        return F.linear((h * chosen).flatten(-2), B)

    def _stacked(self, part: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        factors: Any = self.parts[part]
        stacked: tuple[Tensor, Tensor] = factors.stacked(range(self.n_experts), dtype)
        return stacked

    def _parts(self) -> list[tuple[str, Any]]:
        return [(part, self.parts[part]) for part in self.form.parts]

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)
