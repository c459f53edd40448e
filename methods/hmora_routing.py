"""Routers of HMoRA: distributions of a token and of its task, mixed by depth, and what a task encoder says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from methods.routing import (
    Bank,
    MethodConfig,
    Provider,
    Side,
    Sparsifier,
    generator,
    layer_of,
    wide_linear,
    wide_parameter,
)

_FARTHEST = 4999
"""Position of a prompt's last token for the encoder, as released, where earlier ones count down from it."""


class HybridRouterConfig(MethodConfig):
    """Linear routers of tokens and of tasks."""

    scope: Literal["per_projection", "shared_qkv", "per_layer"] = Field(
        default="per_projection", description="Which sites share a router."
    )
    init_std: float = Field(default=0.02, gt=0, description="Standard deviation of the initial weights.")
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="Dropout in routers and task encoder; null: that of the LoRAs."
    )
    lr: float | None = Field(default=None, gt=0, description="Learning rate; null takes that of the experts.")
    weight_decay: float = Field(default=0.0, ge=0, description="Weight decay.")


class MixConfig(MethodConfig):
    """The share alpha of the task's distribution, sigmoid(-epsilon + 2 epsilon l / L + shift) in layer l of 0..L."""

    epsilon: float = Field(default=2.0, description="How fast the share grows with depth; below 0 it falls.")
    shift: float = Field(default=0.0, description="Moves the share of all layers.")
    low: float = Field(default=0.2, ge=0, le=1, description="Below this share a layer has token routers alone.")
    high: float = Field(default=0.8, ge=0, le=1, description="Above this share a layer has task routers alone.")
    learn: bool = Field(default=True, description="Whether the share is trained where both are mixed.")

    def logit(self, depth: float) -> float:
        """Logit of the share at a depth l / L."""
        return -self.epsilon + 2 * self.epsilon * depth + self.shift

    def parts(self, depth: float) -> tuple[bool, bool]:
        """Whether there are token routers, and task routers."""
        share = 1 / (1 + math.exp(-self.logit(depth)))
        return share <= self.high, share >= self.low


def depths(sites: Sequence[str], model: nn.Module) -> dict[str, float]:
    """l / L of each site: its layer among those of its stack, 0 for the first, 1 for the last and outside of layers."""
    found = {}
    for site in sites:
        stack, _, number = layer_of(site).rpartition(".")
        inside = number.isdigit() and stack
        last = len(list(model.get_submodule(stack).children())) - 1 if inside else 0
        found[site] = int(number) / last if inside and last else float(not inside)
    return found


class TaskSignal:
    """What the task encoder said about the prompts of the current pass.

    Attributes:
        vectors: `[b, d]`, with graph in training.
        initial: those of the untrained encoder; None unless diagnostics are collected.
        at_start: whether the latter are asked for.
    """

    def __init__(self) -> None:
        self.vectors: Tensor | None = None
        self.initial: Tensor | None = None
        self.at_start = False

    def of(self, batch: int) -> Tensor:
        """`[b, d]`.

        Raises:
            RuntimeError: no prompt of so many sequences was passed.
        """
        found = self.initial if self.at_start else self.vectors
        if found is None or len(found) != batch:
            raise RuntimeError("Weights belong to the sequences of a prompt's pass: pass the prompt first.")
        return found

    @contextmanager
    def start(self) -> Iterator[None]:
        """Inside the block it is what the untrained encoder said."""
        self.at_start = True
        try:
            yield
        finally:
            self.at_start = False


class HybridRouter(Provider):
    """Logarithms of (1 - alpha) p(token) + alpha p(task), or of one of the two.

    p(token) = softmax(R x + c), p(task) = softmax(S z + d) with the task's vector z. In training passes `token` and
    `task` keep their logarithms `[b, t, N]` and `[b, 1, N]` for the loss.
    """

    def __init__(
        self,
        n_experts: int,
        d_in: int,
        d_task: int,
        config: HybridRouterConfig,
        mix: MixConfig,
        depth: float,
        signal: TaskSignal,
        side: Side,
        *,
        name: str,
        seed: int,
        like: Tensor,
    ) -> None:
        """Args:
        n_experts: N.
        d_in: width of the tokens' states.
        d_task: width of the task's vector.
        config: of the routers.
        mix: of their mixture.
        depth: of the layer, 0 to 1.
        signal: the task's vectors.
        side: what is known of a pass.
        name: of the router.
        seed: of initial values.
        like: the frozen weight.
        """
        super().__init__()
        self.signal, self.side = signal, side
        self.dropout = config.dropout or 0.0

        def linear(part: str, width: int) -> tuple[nn.Parameter, nn.Parameter]:
            draw = torch.randn(n_experts, width, generator=generator("router", part, name, seed))
            return wide_parameter(draw * config.init_std, like), wide_parameter(torch.zeros(n_experts), like)

        self.has_token, self.has_task = mix.parts(depth)
        if self.has_token:
            self.weight, self.bias = linear("token", d_in)
        if self.has_task:
            self.task_weight, self.task_bias = linear("task", d_task)
        self.share: Tensor
        if self.has_token and self.has_task:
            share = wide_parameter(torch.tensor(mix.logit(depth), dtype=torch.float64), like)
            if mix.learn:
                self.share = share
            else:
                self.register_buffer("share", share.detach(), persistent=False)
        self.token: Tensor | None = None
        self.task: Tensor | None = None

    @classmethod
    def bank(cls, providers: Sequence[Any]) -> Bank:
        """See `Provider.bank`."""
        return HybridBank(providers)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """See `Provider.forward`; `h` is not looked at."""
        token = task = None
        if self.has_token:
            seen = F.dropout(x, self.dropout, self.training)
            token = (wide_linear(seen, self.weight) + self.bias).log_softmax(-1)
        if self.has_task:
            seen = F.dropout(self.signal.of(len(x)).to(x.device), self.dropout, self.training)
            task = (wide_linear(seen, self.task_weight) + self.task_bias).log_softmax(-1).unsqueeze(1)
        if self.side.training and not self.signal.at_start:
            self.token, self.task = token, task
        if token is None or task is None:
            alone = task if token is None else token
            assert alone is not None
            return alone.expand(*x.shape[:-1], -1)
        return torch.logaddexp(token + F.logsigmoid(-self.share), task + F.logsigmoid(self.share))

    def take(self) -> tuple[Tensor | None, Tensor | None]:
        """The latest training pass's `token` and `task`, which are then forgotten."""
        home = self.side.device

        def there(x: Tensor | None) -> Tensor | None:
            return x if x is None or home is None else x.to(home)

        found = there(self.token), there(self.task)
        self.token = self.task = None
        return found


class HybridBank(Bank):
    """Hybrid routers of K sites, one after the other."""

    def initial_logits(self, x: Tensor, h: Tensor, products: Tensor | None = None) -> Tensor | None:
        """See `Bank.initial_logits`; of the untrained encoder's vectors."""
        with self.providers[0].signal.start():
            return super().initial_logits(x, h, products)


@dataclass(frozen=True)
class SoftKept(Sparsifier):
    """A softmax over the k largest *probabilities*, as released: between 0.5 and 0.73 for the better of two."""

    def __call__(self, logits: Tensor, training: bool) -> Tensor:
        """Weights `[..., N]` of logits `[..., N]`; all of p where all are kept."""
        k = self.train_k if training else self.eval_k
        p = logits.softmax(-1)
        if k is None or k >= p.shape[-1]:
            return p
        kept, index = p.topk(k, dim=-1)
        return torch.zeros_like(p).scatter(-1, index, kept.softmax(-1))


class TaskEncoder(nn.Module):
    """One transformer layer, or more, over a prompt's token embeddings and a trained vector, whose output is the task.

    Positions are sinusoids that count down from the prompt's last token, so that padding does not move them.
    """

    def __init__(self, width: int, *, layers: int, heads: int, dropout: float, std: Tensor, seed: int) -> None:
        """Args:
        width: d, of the embeddings.
        layers: number of layers.
        heads: of their attention.
        dropout: in training.
        std: of the embeddings, a scalar, from which the trained vector is drawn.
        seed: of that draw; the layers draw from torch's own generator.
        """
        super().__init__()
        made = (nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, batch_first=True) for _ in range(layers))
        self.layers = nn.ModuleList(made)
        draw = torch.randn(1, width, generator=generator("hmora", "task", seed))
        self.task = nn.Parameter(draw.to(std.device, std.dtype) * std)

    def forward(self, embeddings: Tensor, prompt: Tensor) -> Tensor:
        """The tasks' vectors `[b, d]`.

        Args:
            embeddings: `[b, t, d]`.
            prompt: `[b, t]` booleans of the prompt's tokens.
        """
        x = embeddings.to(self.task)
        after = prompt.flip(1).cumsum(1).flip(1) - 1
        x = x + sinusoids(_FARTHEST - after, x.shape[-1]).to(x)
        x = torch.cat([x, self.task.expand(len(x), 1, -1)], 1)
        hidden = torch.cat([~prompt, prompt.new_zeros(len(x), 1)], 1)
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=hidden)
        return x[:, -1]


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Sines and cosines in turns, `[..., width]` in float64 (Vaswani et al. 2017)."""
    rates = torch.exp(torch.arange(0, width, 2, device=positions.device).double() * (-math.log(10000.0) / width))
    angles = positions.double().unsqueeze(-1) * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)[..., :width]
