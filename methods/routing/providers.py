"""Weight providers: what decides how much each expert counts for a token, as logits before the sparsifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from methods.routing.config import RouterConfig
from methods.routing.context import Side
from methods.routing.factors import Kept
from methods.routing.sparsify import Sparsifier
from methods.seeding import generator, seed_from

_RMS_EPS = 1e-6


def wide(x: Tensor) -> Tensor:
    """The type in which routing is computed: float64 stays, everything else becomes float32."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def wide_linear(x: Tensor, weight: Tensor) -> Tensor:
    """`x weight^T` in the routing type, also under autocast."""
    if torch.is_autocast_enabled(x.device.type):
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(wide(x), weight)
    return F.linear(wide(x), weight)


def wide_parameter(values: Tensor, like: Tensor) -> nn.Parameter:
    """A parameter in the routing type of `like`, on its device."""
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    # Without the copy, parameters made from one tensor would share its memory wherever no conversion is needed.
    return nn.Parameter(values.to(like.device, dtype, copy=True))


class Provider(nn.Module):
    """One router: logits over experts for each token.

    A subclass needs `forward`, or a `bank` that computes several routers at once, and nothing else: its parameters are
    trained, saved and counted, they follow from the run's seed also where its modules draw their own, and they are kept
    in the type that routing is computed in, as are `x` and `h`.
    """

    packs: bool = False
    """Whether a token's logits and weights follow from it alone, whichever sequence it is of; see `RoutedComposed`.
    Every class says so itself: one that derives from it may look at more."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.packs = cls.__dict__.get("packs", False)

    @property
    def trainable(self) -> bool:
        """Whether fitting moves its logits; by default, whether it has parameters."""
        return next(self.parameters(), None) is not None

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Logits `[..., N]`.

        Args:
            x: the site's input `[..., d_in]`, float32 or float64.
            h: the experts' shrunk inputs `A_n x`, `[..., N, r]`, in the same type.
        """
        raise NotImplementedError

    def settled(self, like: Tensor) -> Self:
        """Itself on the device of `like` and in its routing type; done when it is put in."""
        return self.to(like.device, torch.float64 if like.dtype == torch.float64 else torch.float32)

    @classmethod
    def bank(cls, providers: Sequence[Any]) -> Bank:
        """Routers of this class that read the same input, to be computed together."""
        return Bank(providers)

    def remember(self) -> None:
        """Keep the present parameters as the initial ones, against which diagnostics measure movement; done once."""
        if hasattr(self, "_initial"):
            return
        self._initial = {name: p.detach().clone() for name, p in self.named_parameters()}

    def value(self, name: str, initial: bool) -> Tensor:
        """A parameter as it is, or as it was at the start."""
        found: Tensor = self._initial[name] if initial else getattr(self, name)
        return found


class Bank:
    """K routers that read the same input; this base computes one after the other.

    Attributes:
        n_rows: number of rows of `rows()`; 0 where logits do not start as products of x with fixed rows.
        of_softmax: whether the routers' belief in an expert is its softmax probability; else the weights say it.
        aside: what `weights` leaves for the loss besides them, `[b, t, K, ...]`; taken into the record of the pass.
    """

    of_softmax: ClassVar[bool] = True
    aside: Tensor | None = None

    def __init__(self, providers: Sequence[Any]) -> None:
        self.providers = tuple(providers)
        self.n_rows = 0
        self._trained = tuple(p for provider in providers for p in provider.parameters())

    def rows(self, initial: bool = False) -> Tensor:
        """Matrix `[n_rows, d_in]`, with graph, whose products with x the logits are made of."""
        raise NotImplementedError

    def version(self) -> tuple[int, ...]:
        """Changes whenever a trained parameter changes in place or moves."""
        return tuple([v for p in self._trained for v in (p._version, p.data_ptr())])

    def logits(self, x: Tensor, h: Tensor, products: Tensor | None = None, *, initial: bool = False) -> Tensor:
        """Logits `[..., K, N]`.

        Args:
            x: the input `[..., d_in]`.
            h: shrunk inputs of the K sites, `[..., K, N, r]`.
            products: `x rows^T` `[..., n_rows]` where it has been computed already.
            initial: with the parameters of the start instead of the trained ones.
        """
        with torch.autocast(x.device.type, enabled=False):
            x, h = wide(x), wide(h)
            if initial:
                each = [functional_call(p, p._initial, (x, h[..., k, :, :])) for k, p in enumerate(self.providers)]
            else:
                each = [provider(x, h[..., k, :, :]) for k, provider in enumerate(self.providers)]
        return torch.stack(each, -2)

    def weights(self, logits: Tensor, x: Tensor, sparsifier: Sparsifier, training: bool) -> Tensor:
        """Applied weights `[..., K, N]`; overridden where they depend on more than logits.

        Args:
            logits: `[..., K, N]`, of `logits`.
            x: the input they were computed from, `[..., d_in]`.
            sparsifier: the method's.
            training: whether this is a training pass.
        """
        return sparsifier(logits, training)

    def initial_logits(self, x: Tensor, h: Tensor, products: Tensor | None = None) -> Tensor | None:
        """Logits of the untrained routers; None where nothing is trained."""
        return self.logits(x, h, products, initial=True) if self.providers[0].trainable else None


class LinearRouter(Provider):
    """`(norm(x) R^T + c) / tau` (LoRA-Mixer Eq. 4, with everything beyond R optional).

    R is drawn from N(0, init_std^2) seeded by (seed, name), c is 0 and tau = exp(rho).
    """

    packs = True

    def __init__(self, n_experts: int, d_in: int, config: RouterConfig, *, name: str, seed: int, like: Tensor) -> None:
        super().__init__()
        self.config = config
        draw = torch.randn(n_experts, d_in, generator=generator("router", name, seed))
        self.weight = wide_parameter(draw * config.init_std, like)
        self.bias = wide_parameter(torch.zeros(n_experts), like) if config.bias else None
        log_tau = torch.tensor(math.log(config.tau), dtype=torch.float64)
        self.log_tau = wide_parameter(log_tau, like) if config.tau_learn else None

    @classmethod
    def bank(cls, providers: Sequence[Any]) -> Bank:
        """See `Provider.bank`."""
        return LinearBank(providers)


class LinearBank(Bank):
    """Linear routers with one configuration: a single product."""

    def __init__(self, providers: Sequence[Any]) -> None:
        super().__init__(providers)
        self.config: RouterConfig = providers[0].config
        self.n_rows = sum(len(router.weight) for router in providers)
        self._kept = {initial: Kept() for initial in (False, True)}

    def rows(self, initial: bool = False) -> Tensor:
        """See `Bank.rows`."""
        weights = [router.value("weight", initial) for router in self.providers]
        return self._kept[initial].get(weights, None, lambda: torch.cat(weights))

    def logits(self, x: Tensor, h: Tensor, products: Tensor | None = None, *, initial: bool = False) -> Tensor:
        """See `Bank.logits`; `h` is not looked at."""
        if products is None:
            products = wide_linear(x, self.rows(initial).to(x.device))
        logits = products.view(*products.shape[:-1], len(self.providers), -1)
        if self.config.input_norm == "rms":
            scale = wide(x).square().mean(-1, keepdim=True).add(_RMS_EPS).rsqrt()
            logits = logits * scale.unsqueeze(-1)
        if self.config.bias:
            logits = logits + self._stacked("bias", initial).to(x.device)
        if self.config.tau_learn:
            return logits / self._stacked("log_tau", initial).to(x.device).exp().unsqueeze(-1)
        return logits if self.config.tau == 1.0 else logits / self.config.tau

    def _stacked(self, name: str, initial: bool) -> Tensor:
        return torch.stack([router.value(name, initial) for router in self.providers])


class RandomRouter(Provider):
    """Independent draws from Dirichlet(1), one for each token and site: a control that knows nothing.

    The draw is a hash of (seed, site, token id, position in the sequence, expert) turned into a uniform u; -log u is
    exponential, and exponentials divided by their sum are Dirichlet(1), so the logits are log(-log u). A function of
    the token and its position alone, the weights do not depend on how sequences are batched or padded, and decoding
    with a cache gives the same ones as a pass over the whole text. Given embeddings instead of token ids, only the
    position counts.
    """

    def __init__(self, n_experts: int, context: Side, *, name: str, seed: int) -> None:
        super().__init__()
        self.n_experts = n_experts
        self.context = context
        self.key = seed_from("random", name, seed) & _WORD

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """See `Provider.forward`; only shape and type of `x` are looked at."""
        lead = x.shape[:-1]
        positions, ids = self.context.position_ids, self.context.input_ids
        if positions is None:
            positions = torch.arange(lead[-1], device=x.device)
        counter = _mix(positions.to(x.device).expand(lead) ^ self.key)
        if ids is not None:
            counter = _mix(counter ^ ids.to(x.device).expand(lead))
        experts = torch.arange(1, self.n_experts + 1, device=x.device) * 0x9E3779B1
        bits = _mix(counter.unsqueeze(-1) ^ (experts & _WORD))
        uniform = (bits.double() + 0.5) / (_WORD + 1)
        return uniform.log().neg().log().to(wide(x).dtype)


_WORD = 0xFFFFFFFF


def _mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit words with good avalanche (Wellons' `lowbias32`), on non-negative int64 tensors."""
    x = (x ^ (x >> 16)) * 0x7FEB352D & _WORD
    x = (x ^ (x >> 15)) * 0x846CA68B & _WORD
    return x ^ (x >> 16)
