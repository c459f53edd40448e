"""X-LoRA (Buehler and Buehler 2024, arXiv 2402.07148): scalings from a first pass through the unadapted model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.func import functional_call

from methods.base import Level
from methods.routing import (
    DENSE,
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
    TrainingPhase,
    generator,
    install_routed,
    model_like,
    reads_encoder,
    wide,
    wide_parameter,
)


class XloraConfig(MethodConfig):
    """Configuration of `xlora`."""

    scope: Literal["token", "prompt_fixed"] = Field(
        default="token", description="Scalings of every token's own, or those of the prompt's last token for all."
    )
    layerwise: bool = Field(default=False, description="Scalings of every projection's own, or one set for all.")
    depth: PositiveInt = Field(default=1, description="Linear layers of the classifier.")
    size: PositiveInt = Field(default=2048, description="Width of its hidden layers (depth above 1).")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="Dropout after its hidden layers, in training.")
    tau: float = Field(default=1.0, gt=0, description="Temperature that divides the logits.")
    lr: float | None = Field(default=None, gt=0, description="Learning rate; null takes the comparison's.")
    weight_decay: float = Field(default=0.0, ge=0, description="Weight decay of the classifier.")


class Classifier(nn.Module):
    """From last hidden states `[..., d]` to logits `[..., S, N]`, S the number of sites, or 1 for all of them."""

    def __init__(self, config: XloraConfig, d: int, n_sites: int, n_experts: int, *, seed: int, like: Tensor) -> None:
        super().__init__()
        self.shape = (n_sites if config.layerwise else 1, n_experts)
        self.tau = config.tau
        widths = [d, *[config.size] * (config.depth - 1), self.shape[0] * n_experts]
        layers: list[nn.Module] = []
        for index, (fan_in, fan_out) in enumerate(pairwise(widths)):
            layer = nn.Linear(fan_in, fan_out, device="meta")
            # torch's own initial values of a linear layer, from a seed.
            draw, bound = generator("xlora", index, seed), fan_in**-0.5
            for name, shape in (("weight", (fan_out, fan_in)), ("bias", (fan_out,))):
                values = torch.empty(shape).uniform_(-bound, bound, generator=draw)
                setattr(layer, name, wide_parameter(values, like))
            layers += [layer] if index == config.depth - 1 else [layer, nn.ReLU(), nn.Dropout(config.dropout)]
        self.layers = nn.Sequential(*layers)

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states, in the routing type."""
        with torch.autocast(hidden.device.type, enabled=False):
            logits: Tensor = self.layers(wide(hidden))
        return logits.unflatten(-1, self.shape) / self.tau


class XloraReader(ScalingsReader):
    """One site's share of the scalings; without parameters of its own."""

    trainable = True


class XloraComposed(FirstPassComposed):
    """Routed layers, a classifier in the model, and a first pass without experts before every pass.

    Parameter group: `routers`, which is the classifier.
    """

    classifier: Classifier

    def attach(self, classifier: Classifier) -> None:
        """Give it the classifier, which becomes part of the model until uninstalled."""
        self.classifier = classifier
        self._initial = {name: p.detach().clone() for name, p in classifier.named_parameters()}
        classifier.train(self.model.training)
        self.model.add_module("xlora_classifier", classifier)

    def groups(self) -> dict[str, dict[str, nn.Parameter]]:
        """See `Composed.groups`."""
        return {"routers": {f"routers.classifier.{name}": p for name, p in self.classifier.named_parameters()}}

    def say(self, scalings: Scalings, hidden: Tensor, side: Side) -> None:
        """See `FirstPassComposed.say`: the classifier's logits, of the prompt's last token where scalings are fixed."""
        if self.fixed:
            hidden = self.last_of_prompt(hidden, side)
        scalings.logits = self.classifier(hidden)
        scalings.initial = None
        if self.context.collect:
            with torch.no_grad():
                scalings.initial = functional_call(self.classifier, self._initial, (hidden,))

    def uninstall(self) -> None:
        """See `Composed.uninstall`."""
        if self._freeze is not None:
            del self.model.xlora_classifier
        super().uninstall()


class Xlora(RoutedMethod):
    """Dense softmax scalings from the last hidden states of the unadapted model; experts frozen."""

    Config: ClassVar[type[MethodConfig]] = XloraConfig
    config: XloraConfig

    def routes(self) -> Level | None:
        """See `Method.routes`."""
        return "token" if self.config.scope == "token" else "example"

    def pads(self) -> bool:
        """See `Method.pads`: its first pass runs without the cache by which packed rows attend."""
        return True

    def passes(self, n_experts: int) -> int:
        """See `Method.passes`: a first one without experts, which with fixed scalings is the prompts' alone."""
        return 2 if self.config.scope == "token" else 1

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> XloraComposed:
        """See `Method.install`."""
        scalings, of_encoder, sites = Scalings(), Scalings(), list[str]()

        def provider(name: str, site: RoutedLinear) -> XloraReader:
            sites.append(name)
            return XloraReader(of_encoder if reads_encoder(name) else scalings, len(sites) - 1)

        routing = Routing(provider, DENSE)
        composed = install_routed(model, experts, RoutingContext(), routing, fuse=self.fuse, handle=XloraComposed)
        assert isinstance(composed, XloraComposed)
        config: Any = model.config
        width = config.get_text_config().hidden_size
        like = model_like(model)
        classifier = Classifier(self.config, width, len(sites), len(experts), seed=seed, like=like)
        composed.attach(classifier)
        composed.watch(scalings, of_encoder, fixed=self.config.scope == "prompt_fixed")
        return composed

    def phase(self) -> TrainingPhase:
        """See `RoutedMethod.phase`."""
        lr = {} if self.config.lr is None else {"routers": self.config.lr}
        return TrainingPhase("classifier", "routing", ("routers",), lr=lr, weight_decay=self.config.weight_decay)
