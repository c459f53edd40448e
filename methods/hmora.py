"""HMoRA (Liao et al. 2025, ICLR): LoRA experts routed by token in shallow layers and by task in deep ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from methods.hmora_routing import (
    HybridRouter,
    HybridRouterConfig,
    MixConfig,
    SoftKept,
    TaskEncoder,
    TaskSignal,
    depths,
)
from methods.joint import ExpertsConfig, JointMethod
from methods.mixlora import Top2Config
from methods.routing import (
    AuxiliaryLoss,
    Comparison,
    Expert,
    LossTerm,
    MethodConfig,
    OverRouters,
    RoutedComposed,
    RoutedLinear,
    Routing,
    RoutingBatch,
    RoutingContext,
    Side,
    Sparsifier,
    StatisticsConfig,
    TrainingPhase,
    Unsupported,
    dense_weight,
    drawing_from,
    expand_at,
    losses,
    seed_from,
    wide,
)


class HmoraRouteConfig(Top2Config):
    """What the sparsifier keeps."""

    soft_kept: bool = Field(
        default=True, description="A softmax over the kept probabilities, as released, instead of their shares."
    )

    @model_validator(mode="after")
    def _one_way_to_weigh(self) -> Self:
        if self.soft_kept and (self.renorm == "none" or self.straight_through):
            raise ValueError(
                "a softmax over the kept probabilities sums to one and has a gradient: set route.soft_kept=false for "
                "route.renorm=none or route.straight_through."
            )
        return self


class GjsConfig(MethodConfig):
    """The constrained generalised Jensen-Shannon loss of one kind of routers."""

    coef: float = Field(default=0.005, ge=0, description="Coefficient; 0 leaves the term out.")
    balance: float = Field(default=0.98, ge=0, le=1, description="Share of ln N from which mean entropy is enough.")
    certain: float = Field(default=0.5, ge=0, le=1, description="Share of ln N below which an entropy is enough.")


class HmoraLossConfig(StatisticsConfig):
    """Auxiliary losses of the routers."""

    over_routers: OverRouters = Field(
        default="sum", description="Mean or sum over routers, or the sum over layers of each layer's mean."
    )
    token: GjsConfig = GjsConfig()
    task: GjsConfig = GjsConfig()


class TaskEncoderConfig(MethodConfig):
    """The encoder of prompts."""

    layers: PositiveInt = Field(default=1, description="Transformer layers.")
    heads: PositiveInt = Field(default=16, description="Heads of their attention.")


class HmoraConfig(ExpertsConfig):
    """Configuration of `hmora`."""

    dropout_masks: Literal["expert", "site"] = Field(
        default="site", description="Dropout masks of every expert's own, or one for all of a site, as released."
    )
    router: HybridRouterConfig = HybridRouterConfig()
    mix: MixConfig = MixConfig()
    encoder: TaskEncoderConfig = TaskEncoderConfig()
    route: HmoraRouteConfig = HmoraRouteConfig()
    loss: HmoraLossConfig = HmoraLossConfig()

    def within(self, comparison: Comparison) -> Self:
        """See `JointConfig.within`."""
        filled = super().within(comparison)
        if self.router.dropout is not None:
            return filled
        return filled.model_copy(update={"router": self.router.model_copy(update={"dropout": filled.lora.dropout})})


def lacking(mean: Tensor, balance: float) -> Tensor:
    """[balance - H(mean) / ln N]_+ of mean distributions `[..., N]`: 0 once they are even enough."""
    return (balance - losses.entropy(mean) / math.log(mean.shape[-1])).clamp(min=0)


def doubt(log_p: Tensor, certain: float) -> Tensor:
    """[H(p) / ln N - certain]_+ of distributions `[..., N]`: 0 once they are certain enough."""
    return (losses.entropy_of_logits(log_p) / math.log(log_p.shape[-1]) - certain).clamp(min=0)


class GjsLosses(AuxiliaryLoss):
    """For token routers and for task routers [balance - H(pbar) / ln N]_+ + E [H(p) / ln N - certain]_+.

    That is the source's relu(D - (min(H(pbar), balance ln N) - E max(H(p), certain ln N))) / ln N with
    D = (balance - certain) ln N, whose relu never acts: each clamped entropy stays on its side.

    Means over sequences are means over their tokens, so that they do not depend on how a window is cut.
    """

    config: HmoraLossConfig

    def __init__(
        self, n_routers: int, n_experts: int, config: HmoraLossConfig, like: Tensor, routers: Sequence[HybridRouter]
    ) -> None:
        super().__init__(n_routers, n_experts, config, like)
        self.routers = routers
        self._halves: tuple[list[Tensor | None], list[Tensor | None]] = [], []

    def __call__(self, batch: RoutingBatch, progress: float) -> dict[str, LossTerm]:
        """See `AuxiliaryLoss.__call__`."""
        found = [router.take() for router in self.routers]
        self._halves = [token for token, _ in found], [task for _, task in found]
        try:
            return super().__call__(batch, progress)
        finally:
            self._halves = [], []

    def means(self, batch: RoutingBatch) -> tuple[Tensor, Tensor]:
        """See `AuxiliaryLoss.means`: of token and of task distributions, even where a router has none."""
        even = batch.records[0].logits.new_full((1, 1, self.n_experts), 1 / self.n_experts)
        token, task = (
            self._average(batch, {n: even if log_p is None else log_p.exp() for n, log_p in enumerate(half)})
            for half in self._halves
        )
        return token, task

    def terms(self, batch: RoutingBatch, progress: float) -> dict[str, LossTerm]:
        """See `AuxiliaryLoss.terms`."""
        found = {}
        points = self.statistics.point()
        kinds = (("token", self.config.token), ("task", self.config.task))
        for (name, config), half, point in zip(kinds, self._halves, points, strict=True):
            there = {n: value for n, value in enumerate(half) if value is not None}
            if not config.coef or not there:
                continue
            mean = self._average(batch, {n: value.exp() for n, value in there.items()})
            spread = expand_at(
                partial(lacking, balance=config.balance), mean, None if point is None else point[list(there)]
            )
            unsure = self._average(batch, {n: doubt(value, config.certain) for n, value in there.items()})
            found[name] = self.term(spread + unsure, config.coef, [self.layers[n] for n in there])
        return found

    @staticmethod
    def _average(batch: RoutingBatch, values: Mapping[int, Tensor]) -> Tensor:
        """Means over counted tokens `[n, ...]` of values `[b or 1, t or 1, ...]` at the tokens of n routers."""

        def everywhere(n: int) -> Tensor:
            b, t = batch.records[n].logits.shape[:2]
            return values[n].expand(b, t, *values[n].shape[2:]).unsqueeze(2)

        return batch.average((everywhere(n), batch.records[n].encoder) for n in values)


class HmoraComposed(RoutedComposed):
    """Routed layers, and an encoder that reads a prompt's embeddings before the layers do.

    What it says holds for the text that follows. Parameter groups: as `RoutedComposed`, and `encoder` where some layer
    is routed by task.
    """

    encoder: TaskEncoder | None = None

    def read(self, encoder: TaskEncoder, signal: TaskSignal) -> Self:
        """Begin to encode prompts."""
        self.encoder, self.signal, self.whole_prompts = encoder, signal, True
        encoder.train(self.model.training)
        self._untrained = deepcopy(encoder).eval()
        self._hooks: list[Any] = []
        next(iter(self._routed.values())).add_module("task_encoder", encoder)
        if self.context.encoder is None:
            self._hook.follow.append(self._before)
        else:
            whole: Any = self.model
            self._hooks.append(whole.get_encoder().register_forward_pre_hook(self._before, with_kwargs=True))
        return self

    def _before(self, _stack: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        side: Side = self.context if self.context.encoder is None else self.context.encoder
        if side.past_length:
            return
        assert self.encoder is not None
        embeddings = kwargs.get("inputs_embeds")
        if embeddings is None:
            whole: Any = self.model
            embeddings = whole.get_input_embeddings()(kwargs.get("input_ids", args[0] if args else None))
        prompt = side.prompt(embeddings.shape[:2], embeddings.device)
        with torch.autocast(embeddings.device.type, enabled=False):
            self.signal.vectors = self.encoder(embeddings.detach(), prompt)
            if self.context.collect:
                with torch.no_grad():
                    self.signal.initial = self._untrained(embeddings, prompt)

    def groups(self) -> dict[str, dict[str, nn.Parameter]]:
        """See `Composed.groups`."""
        found = super().groups()
        if self.encoder is not None:
            found["encoder"] = {f"encoder.{name}": p for name, p in self.encoder.named_parameters()}
        return found

    def uninstall(self) -> None:
        """See `Composed.uninstall`."""
        for hook in self._hooks if self.encoder is not None else ():
            hook.remove()
        super().uninstall()


class Hmora(JointMethod):
    """Hybrid routing of LoRA experts, tokens' in shallow and tasks' in deep layers, trained with the GJS losses."""

    Config: ClassVar[type[MethodConfig]] = HmoraConfig
    handle: ClassVar[type[RoutedComposed]] = HmoraComposed
    source_rates: ClassVar[Mapping[str, float]] = {"lora.lr": 5e-5}
    config: HmoraConfig

    def pads(self) -> bool:
        """See `Method.pads`: task routers and their losses belong to a sequence."""
        return True

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        super().check(model_config, pool)
        self.config.route.check(len(self.names(pool)))
        refuse_heads(model_config.get_text_config().hidden_size, self.config.encoder.heads)

    def put(self, model: nn.Module, fresh: Sequence[Expert], context: RoutingContext, seed: int) -> HmoraComposed:
        """See `JointMethod.put`."""
        config, signal = self.config, TaskSignal()
        whole: Any = model
        embeddings = dense_weight(whole.get_input_embeddings())
        width, depth = embeddings.shape[1], depths(list(fresh[0].sites), model)
        refuse_heads(width, config.encoder.heads)
        made: list[HybridRouter] = []

        def provider(name: str, site: RoutedLinear) -> HybridRouter:
            made.append(
                HybridRouter(
                    len(fresh),
                    site.in_features,
                    width,
                    config.router,
                    config.mix,
                    depth[name],
                    signal,
                    context.side(name),
                    name=name,
                    seed=seed,
                    like=site.weight,
                )
            )
            return made[-1]

        def loss(n_routers: int, n_experts: int, like: Tensor) -> GjsLosses:
            return GjsLosses(n_routers, n_experts, config.loss, like, made)

        routing = Routing(provider, self.sparsifier(), scope=config.router.scope, jitter=config.route.jitter, loss=loss)
        composed = self.routed(model, fresh, context, routing)
        assert isinstance(composed, HmoraComposed)
        if any(router.has_task for router in made):
            with drawing_from(seed_from("hmora", "encoder", seed)):
                encoder = TaskEncoder(
                    width,
                    layers=config.encoder.layers,
                    heads=config.encoder.heads,
                    dropout=config.router.dropout or 0.0,
                    std=wide(embeddings[:1024].detach()).std(),
                    seed=seed,
                )
            composed.read(encoder.to(embeddings.device, wide(embeddings[:0]).dtype), signal)
        return composed

    def sparsifier(self) -> Sparsifier:
        """Turns mixed distributions into weights."""
        usual = self.config.route.sparsifier()
        return SoftKept(usual.train_k, usual.eval_k) if self.config.route.soft_kept else usual

    def phase(self) -> TrainingPhase:
        """See `RoutedMethod.phase`; the encoder learns at the routers' rate."""
        phase = super().phase()
        rates = {"encoder": phase.lr["routers"]} if "routers" in phase.lr else {}
        return replace(phase, lr={**phase.lr, **rates})


def refuse_heads(width: int, heads: int) -> None:
    """Raise `Unsupported` unless a task encoder of a width can have so many heads."""
    if width % heads:
        raise Unsupported(
            f"A task encoder of {heads} heads cannot have this model's width of {width}: set encoder.heads to a "
            "divisor of it."
        )
