"""Sections of routed methods' configurations. Defaults and their sources are argued in the methods' cards."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from methods.base import MethodConfig, Unsupported
from methods.routing.context import CountedTokens
from methods.routing.sparsify import Sparsifier

Scope = Literal["per_projection", "shared_qkv", "per_layer", "global"]


class RouterConfig(MethodConfig):
    """A linear router."""

    scope: Scope = Field(default="per_projection", description="Which sites share a router.")
    bias: bool = Field(default=False, description="Whether logits have a bias.")
    init_std: float = Field(default=0.02, ge=0, description="Standard deviation of the initial weights.")
    tau: float = Field(default=1.0, gt=0, description="Temperature that divides the logits.")
    tau_learn: bool = Field(default=False, description="Whether the temperature is trained, as exp(rho).")
    input_norm: Literal["none", "rms"] = Field(default="none", description="Normalisation of the router's input.")
    lr: float | None = Field(default=None, gt=0, description="Learning rate; null takes the comparison's.")
    weight_decay: float = Field(default=0.0, ge=0, description="Weight decay of the routers.")


class RouteConfig(MethodConfig):
    """What the sparsifier keeps."""

    train_k: PositiveInt = Field(default=3, description="Experts kept per token in training.")
    eval_k: PositiveInt = Field(default=3, description="Experts kept per token at inference.")
    renorm: Literal["sum", "none"] = Field(default="sum", description="Whether kept weights are divided by their sum.")
    dense: bool = Field(default=False, description="Keep all experts, in training and at inference.")
    dense_train: bool = Field(default=False, description="Keep all experts in training only.")
    jitter: float = Field(default=0.0, ge=0, lt=1, description="Multiplicative noise on routers' inputs in training.")
    straight_through: bool | None = Field(
        default=None, description="Gradient of p at the kept weights; null: where one is kept and divided by itself."
    )

    @model_validator(mode="after")
    def _a_gradient_to_replace(self) -> Self:
        if self.straight_through and (self.dense or self.dense_train or self.renorm == "none"):
            raise ValueError(
                "weights that are not divided by a kept sum in training have the gradient of p already: leave "
                "route.straight_through out."
            )
        return self

    def sparsifier(self) -> Sparsifier:
        """The sparsifier that these settings describe."""
        return Sparsifier(
            None if self.dense or self.dense_train else self.train_k,
            None if self.dense else self.eval_k,
            self.renorm,
            straight_through=self._straight_through(),
        )

    def _straight_through(self) -> bool:
        if self.straight_through is None:
            return self.train_k == 1 and self.renorm == "sum" and not (self.dense or self.dense_train)
        return self.straight_through

    def check(self, n_experts: int) -> None:
        """Refuse a top-k that keeps everything without saying so.

        Raises:
            Unsupported: k is not below the number of experts and `dense` is false.
        """
        refuse_large_k(n_experts, 0 if self.dense or self.dense_train else self.train_k, "train")
        refuse_large_k(n_experts, 0 if self.dense else self.eval_k, "eval")


def refuse_large_k(n_experts: int, k: int, phase: Literal["train", "eval"]) -> None:
    """Raise `Unsupported` unless `k` is below the number of experts."""
    if k >= n_experts:
        experts = "1 expert is" if n_experts == 1 else f"{n_experts} experts are"
        raise Unsupported(
            f"Top-{k} routing needs more than {k} experts but {experts} in the pool: "
            f"set route.{phase}_k below {n_experts}, or route.dense=true, or name more experts."
        )


class AuxConfig(MethodConfig):
    """The balance loss sum_i pbar_i fbar_i."""

    coef: float = Field(default=0.1, description="Coefficient; 0 leaves the term out.")
    f_mode: Literal["topk_score", "top1_freq", "topk_freq", "mean_prob"] = Field(
        default="topk_score", description="What fbar is the mean of."
    )
    times_N: bool = Field(default=False, description="Whether the sum is multiplied by the number of experts.")
    detach_f: bool = Field(default=True, description="Whether fbar is held constant in the gradient.")


class EntropyConfig(MethodConfig):
    """The mean entropy E[H(p)] of single tokens' routing distributions."""

    coef: float = Field(default=0.05, description="Coefficient; 0 leaves the term out.")
    sign: Literal[1, -1, 0] = Field(default=1, description="+1 minimises the entropy, -1 maximises it, 0 drops it.")


class TermConfig(MethodConfig):
    """A term with nothing but a coefficient."""

    coef: float = Field(default=0.0, description="Coefficient; 0 leaves the term out.")


OverRouters = Literal["mean", "sum", "layer_sum"]
"""How the losses of single routers make one: `layer_sum` sums over layers the mean over a layer's routers."""


class StatisticsConfig(MethodConfig):
    """Where the mean routing probabilities of balance losses come from, and how the routers' losses are added up."""

    stats_scope: Literal["ema", "microbatch", "accum"] = Field(
        default="ema", description="Running means over windows, one micro-batch, or the whole window in two passes."
    )
    stats_tokens: CountedTokens = Field(default="all_nonpad", description="Tokens that are counted.")
    ema_decay: float = Field(default=0.99, ge=0, lt=1, description="Decay of the running means per optimiser step.")
    over_routers: OverRouters = Field(
        default="mean", description="Mean or sum over routers, or the sum over layers of each layer's mean."
    )


def refuse_over_routers(config: StatisticsConfig, reading: str) -> None:
    """Raise `ValueError` where a loss that is one over all routers is to be added up over them."""
    if config.over_routers != "mean":
        raise ValueError(f"{reading}, so there is nothing to add up over routers: leave loss.over_routers at mean.")


class LossConfig(StatisticsConfig):
    """Auxiliary losses of the routers: a sum of terms, all multiplied by `outer` and by the warm-up ramp.

    The defaults are the routing specialisation loss of LoRA-Mixer, 0.1 sum_i pbar_i fbar_i + 0.05 E[H(p)].
    """

    over_routers: OverRouters = Field(
        default="sum", description="Mean or sum over routers, or the sum over layers of each layer's mean."
    )
    aux: AuxConfig = AuxConfig()
    entropy: EntropyConfig = EntropyConfig()
    mi: TermConfig = TermConfig()
    cv2: TermConfig = TermConfig()
    z: TermConfig = TermConfig()
    outer: float = Field(default=1.0, description="Factor of all terms.")
    warmup_frac: float = Field(default=0.3, ge=0, le=1, description="Share of optimiser steps to full coefficients.")
    warmup_shape: Literal["linear", "cosine"] = Field(default="linear", description="Shape of that ramp.")
