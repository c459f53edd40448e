"""X-LoRA (Buehler and Buehler 2024, arXiv 2402.07148): scalings from a first pass through the unadapted model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.func import functional_call

from methods.routing import (
    DENSE,
    Bank,
    Expert,
    MethodConfig,
    Provider,
    RoutedComposed,
    RoutedLinear,
    RoutedMethod,
    Routing,
    RoutingContext,
    Side,
    TrainingPhase,
    generator,
    install_routed,
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


class Scalings:
    """What the classifier said about the sequences of the current pass.

    Attributes:
        logits: `[b, t or 1, S or 1, N]`.
        initial: those of the untrained classifier; None unless diagnostics are collected.
    """

    def __init__(self) -> None:
        self.logits: Tensor | None = None
        self.initial: Tensor | None = None

    def of(self, sites: Sequence[int], shape: torch.Size, initial: bool) -> Tensor:
        """Logits `[b, t, K, N]` of K sites for a pass of shape `[b, t]`.

        Raises:
            RuntimeError: the classifier has not seen this pass.
        """
        found = self.initial if initial else self.logits
        if found is None:
            raise RuntimeError("X-LoRA's layers run inside a pass of the whole model: call the model, not its parts.")
        chosen = found[..., list(sites), :] if found.shape[-2] > 1 else found.expand(-1, -1, len(sites), -1)
        return chosen.expand(*shape, -1, -1)


class XloraReader(Provider):
    """One site's share of the scalings; without parameters of its own."""

    trainable = True

    def __init__(self, scalings: Scalings, index: int) -> None:
        super().__init__()
        self.scalings = scalings
        self.index = index

    @classmethod
    def bank(cls, providers: Sequence[Any]) -> Bank:
        """See `Provider.bank`."""
        return XloraBank(providers)


class XloraBank(Bank):
    """The scalings of K sites that read one input."""

    def logits(self, x: Tensor, h: Tensor, products: Tensor | None = None, *, initial: bool = False) -> Tensor:
        """See `Bank.logits`; only the shape of `x` is looked at."""
        sites = [provider.index for provider in self.providers]
        scalings: Scalings = self.providers[0].scalings
        return scalings.of(sites, x.shape[:2], initial)


class XloraComposed(RoutedComposed):
    """Routed layers, a classifier in the model, and a first pass without experts before every pass.

    Parameter group: `routers`, which is the classifier.
    """

    classifier: Classifier

    def attach(self, classifier: Classifier, scalings: Scalings, of_encoder: Scalings, scope: str) -> None:
        """Give it the classifier, which becomes part of the model until uninstalled.

        Args:
            classifier: of last hidden states.
            scalings: read by the sites of a decoder.
            of_encoder: read by those of an encoder.
            scope: see `XloraConfig`.
        """
        self.classifier = classifier
        self.scalings, self.of_encoder = scalings, of_encoder
        self.fixed = scope == "prompt_fixed"
        self.kv_cache = self.whole_prompts = self.fixed
        self.passes = 1 if self.fixed else 2
        self._initial = {name: p.detach().clone() for name, p in classifier.named_parameters()}
        classifier.train(self.model.training)
        self.model.add_module("xlora_classifier", classifier)
        # After the context has been filled, so that it says what this pass is.
        self._first_pass: list[Any] = []
        if self.context.encoder is None:
            self._hook.follow.append(self._classify)
            return
        whole: Any = self.model
        for stack, hook in (
            (whole.get_encoder(), self._classify_encoder),
            (whole.get_decoder(), self._classify_decoder),
        ):
            self._first_pass.append(stack.register_forward_pre_hook(hook, with_kwargs=True))

    def groups(self) -> dict[str, dict[str, nn.Parameter]]:
        """See `Composed.groups`."""
        return {"routers": {f"routers.classifier.{name}": p for name, p in self.classifier.named_parameters()}}

    def _classify(self, inner: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run the model without experts and keep the scalings of its last hidden states.

        Raises:
            RuntimeError: the pass continues a cache whose prompt was not passed, or any cache for `token`.
        """
        if self.context.past_length:
            self._require_prompt(self._batch(args, kwargs))
            return
        caches = {"past_key_values", "cache_params"} & kwargs.keys()
        whole = {**kwargs, "use_cache": False, **dict.fromkeys(caches)}
        hidden = self._unadapted(inner, args, whole)
        self._score(self.scalings, self._last_of_prompt(hidden, self.context) if self.fixed else hidden)

    def _classify_encoder(self, stack: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """As `_classify`, for the encoder of an encoder-decoder model; its states begin the decoder's first pass."""
        assert self.context.encoder is not None
        self._encoder_states = self._unadapted(stack, args, kwargs)
        if self.fixed:
            last = self._last_of_prompt(self._encoder_states, self.context.encoder)
            self._score(self.scalings, last)
            self._score(self.of_encoder, last)
        else:
            self._score(self.of_encoder, self._encoder_states)

    def _classify_decoder(self, stack: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """As `_classify`, for the decoder, which without experts reads the encoder's states without experts."""
        if self.fixed or self.context.past_length:
            self._require_prompt(self._batch(args, kwargs))
            return
        whole = {**kwargs, "use_cache": False, "past_key_values": None, "encoder_hidden_states": self._encoder_states}
        self._score(self.scalings, self._unadapted(stack, args, whole))

    def _require_prompt(self, batch: int) -> None:
        known = self.scalings.logits is not None and self.scalings.logits.shape[:2] == (batch, 1)
        if not self.fixed or not known:
            raise RuntimeError(
                "X-LoRA scores whole sequences: pass them without a cache, or choose scope=prompt_fixed and pass "
                "the prompt first."
            )

    def _unadapted(self, stack: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Last hidden states `[b, t, d]` of a stack without experts."""
        with self.bypassed(), torch.no_grad():
            hidden: Tensor = stack.forward(*args, **kwargs).last_hidden_state
        return hidden

    @staticmethod
    def _last_of_prompt(hidden: Tensor, side: Side) -> Tensor:
        """Hidden states `[b, 1, d]` of the prompt's last token."""
        prompt = side.prompt(hidden.shape[:2], hidden.device)
        last = (prompt * torch.arange(1, hidden.shape[1] + 1, device=hidden.device)).argmax(1)
        return hidden[torch.arange(len(hidden), device=hidden.device), last].unsqueeze(1)

    def _score(self, scalings: Scalings, hidden: Tensor) -> None:
        scalings.logits = self.classifier(hidden)
        scalings.initial = None
        if self.context.collect:
            with torch.no_grad():
                scalings.initial = functional_call(self.classifier, self._initial, (hidden,))

    @staticmethod
    def _batch(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        ids = kwargs.get("input_ids", args[0] if args else None)
        return len(kwargs["inputs_embeds"] if ids is None else ids)

    def uninstall(self) -> None:
        """See `Composed.uninstall`."""
        if self._freeze is not None:
            for hook in self._first_pass:
                hook.remove()
            del self.model.xlora_classifier
        super().uninstall()


class Xlora(RoutedMethod):
    """Dense softmax scalings from the last hidden states of the unadapted model; experts frozen."""

    Config: ClassVar[type[MethodConfig]] = XloraConfig
    config: XloraConfig

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
        like = next(model.parameters())
        classifier = Classifier(self.config, width, len(sites), len(experts), seed=seed, like=like)
        composed.attach(classifier, scalings, of_encoder, self.config.scope)
        return composed

    def phase(self) -> TrainingPhase:
        """See `RoutedMethod.phase`."""
        lr = {} if self.config.lr is None else {"routers": self.config.lr}
        return TrainingPhase("classifier", "routing", ("routers",), lr=lr, weight_decay=self.config.weight_decay)
