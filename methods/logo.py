"""LoGo (Lee et al. 2025, arXiv 2511.07129): adapters chosen for each prompt by how strongly they answer to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from methods.base import Level
from methods.pool import PoolExpert
from methods.routing import (
    Expert,
    FirstPassComposed,
    MethodConfig,
    RoutedLinear,
    RoutedMethod,
    Routing,
    RoutingContext,
    Scalings,
    ScalingsReader,
    Side,
    Sparsifier,
    Unsupported,
    install_routed,
    layer_of,
    losses,
    reads_encoder,
    refuse_large_k,
    wide,
)


class LogoRouteConfig(MethodConfig):
    """What is kept of the scores."""

    eval_k: PositiveInt = Field(default=3, description="Experts kept for a prompt.")
    dense: bool = Field(default=False, description="Keep all experts.")


class LogoConfig(MethodConfig):
    """Configuration of `logo`."""

    route: LogoRouteConfig = LogoRouteConfig()
    signal: Literal["norm", "entropy"] = Field(
        default="norm", description="Length of an expert's output, or one over the entropy of its softmax."
    )
    layer: Literal["last", "first"] = Field(default="last", description="Layer whose first site is listened to.")


def scores(outputs: Tensor, signal: str) -> Tensor:
    """Relevance `[...]` of experts' outputs `[..., d]`, positive.

    `norm`: |o|; `entropy`: 1 / H(softmax(o)), smaller the flatter an output is.
    """
    if signal == "norm":
        return outputs.norm(dim=-1)
    return 1 / losses.entropy_of_logits(outputs)


class LogoComposed(FirstPassComposed):
    """Listens to what all experts would add at one site to a prompt's last token, in a pass in which none does."""

    def listen(self, signal: str, layer: str) -> None:
        """Choose the site.

        Raises:
            Unsupported: the experts of an encoder-decoder model leave its encoder out, which alone reads the prompt.
        """
        self.signal = signal
        names = [n for n in self._routed if self.context.encoder is None or n.startswith("encoder.")]
        if not names:
            raise Unsupported("LoGo listens where the prompt is read: the experts need factors in the encoder.")
        # The first pass ends before the output layer, whose input it returns; experts there alone are heard by that.
        head: Any = self.model
        self.head = head.get_output_embeddings()
        names = [n for n in names if self._routed[n] is not self.head] or names
        chosen = layer_of(names[-1] if layer == "last" else names[0])
        self.site = next(self._routed[name] for name in names if layer_of(name) == chosen)
        self.heard: Tensor | None = None
        self.site.register_forward_pre_hook(self._hear)

    def _hear(self, _module: nn.Module, args: tuple[Any, ...]) -> None:
        if self.site.bypassed:
            self.heard = self.site.sequences(args[0])

    def say(self, scalings: Scalings, hidden: Tensor, side: Side) -> None:
        """See `FirstPassComposed.say`: logarithms of scores, so that a softmax over some is their share of the sum.

        Raises:
            RuntimeError: the first pass has not entered the site.
        """
        heard = hidden if self.site is self.head else self.heard
        if heard is None:
            raise RuntimeError(f"the first pass has not entered {self.site.name}.")
        x = wide(self.last_of_prompt(heard, side))
        outputs = x.new_zeros(*x.shape[:2], len(self.experts), self.site.out_features)
        for n, factors in enumerate(self.site.factors):
            if factors is not None:
                outputs[..., n, :] = factors.scale * (x @ factors.A.to(x).T @ factors.B.to(x).T)
        found = scores(outputs, self.signal)
        absent = torch.tensor([factors is None for factors in self.site.factors], device=x.device)
        found = found.masked_fill(absent, 0.0).clamp(min=torch.finfo(found.dtype).tiny)
        scalings.logits = found.log()[:, :, None]


class Logo(RoutedMethod):
    """The experts with the strongest answer to a prompt, weighted by it, for the whole text; trains nothing."""

    Config: ClassVar[type[MethodConfig]] = LogoConfig
    config: LogoConfig

    def seeded(self) -> bool:
        """See `Method.seeded`."""
        return False

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        super().check(model_config, pool)
        if not self.config.route.dense:
            refuse_large_k(len(pool), self.config.route.eval_k, "eval")

    def takes(self, pool: Sequence[PoolExpert]) -> str | None:
        """See `Method.takes`."""
        sites = {site for expert in pool for site in expert.sites}
        if sites and all(site.startswith("decoder.") for site in sites):
            return "it listens where the prompt is read, and no expert has factors in the encoder"
        return super().takes(pool)

    def routes(self) -> Level | None:
        """See `Method.routes`."""
        return "example"

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> LogoComposed:
        """See `Method.install`.

        Raises:
            Unsupported: see `LogoComposed.listen`.
        """
        scalings, of_encoder = Scalings(), Scalings()
        k = None if self.config.route.dense else self.config.route.eval_k

        def provider(name: str, site: RoutedLinear) -> ScalingsReader:
            return ScalingsReader(of_encoder if reads_encoder(name) else scalings, 0)

        routing = Routing(provider, Sparsifier(k, k))
        composed = install_routed(model, experts, RoutingContext(), routing, fuse=self.fuse, handle=LogoComposed)
        assert isinstance(composed, LogoComposed)
        try:
            composed.watch(scalings, of_encoder, fixed=True).listen(self.config.signal, self.config.layer)
        except Unsupported:
            composed.uninstall()
            raise
        return composed
