"""MixLoRA (Li et al. 2024, arXiv 2404.15159): LoRA experts on feed-forward blocks, plain LoRA on attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from methods.joint import ExpertsConfig, JointMethod, block_parts, misformed_blocks, parts_of
from methods.loads import BalanceConfig, PickBalance, PickLossConfig
from methods.routing import (
    BLOCK_PARTS,
    FORMS,
    AuxiliaryLoss,
    BlockComposed,
    Comparison,
    Expert,
    LinearRouter,
    LinearRoutingConfig,
    MethodConfig,
    Provider,
    RouteConfig,
    RouterConfig,
    RoutingBatch,
    RoutingContext,
    Unsupported,
    install_blocks,
    refuse_over_routers,
    starting_as_base,
    weight_like,
)


class BlockRouterConfig(RouterConfig):
    """A linear router of a feed-forward block."""

    scope: Literal["per_layer"] = Field(default="per_layer", description="One router per block.")


class Top2Config(RouteConfig):
    """What the sparsifier keeps: two experts by default."""

    train_k: PositiveInt = Field(default=2, description="Experts kept per token in training.")
    eval_k: PositiveInt = Field(default=2, description="Experts kept per token at inference.")


class BlockAuxConfig(BalanceConfig):
    """The balance loss of MixLoRA."""

    concat_layers: bool = Field(default=False, description="One balance over all layers' tokens, as released.")


class MixLoraLossConfig(PickLossConfig):
    """Auxiliary loss of the routers."""

    aux: BlockAuxConfig = BlockAuxConfig()

    @model_validator(mode="after")
    def _one_balance_is_no_sum(self) -> Self:
        if self.aux.concat_layers:
            refuse_over_routers(self, "loss.aux.concat_layers=true takes one balance over all layers")
        return self


class BlockConfig(ExpertsConfig):
    """Of methods with LoRA experts on feed-forward blocks; `lora.targets` is where the plain LoRA goes."""

    route: Top2Config = Top2Config()

    def within(self, comparison: Comparison) -> Self:
        """See `JointConfig.within`; the plain LoRA keeps off the blocks."""
        filled = super().within(comparison)
        if self.lora.targets is not None:
            return filled
        targets = tuple(target for target in comparison.targets if target not in BLOCK_PARTS)
        return filled.model_copy(update={"lora": filled.lora.model_copy(update={"targets": targets})})


class MixLoraConfig(BlockConfig, LinearRoutingConfig):
    """Configuration of `mixlora`."""

    router: BlockRouterConfig = BlockRouterConfig()
    route: Top2Config = Top2Config()
    loss: MixLoraLossConfig = MixLoraLossConfig()


class BlockMethod(JointMethod):
    """Experts on feed-forward blocks, mixed at their output, and a plain LoRA elsewhere, all from scratch."""

    Config: ClassVar[type[MethodConfig]] = BlockConfig
    update_only: ClassVar[bool] = False
    """See `RoutedBlock`."""
    config: BlockConfig

    def provider(self, name: str, linear: nn.Linear, seed: int) -> Provider:
        """The router of a block.

        Args:
            name: path of the block.
            linear: a projection that reads its input.
            seed: of initial values.
        """
        raise NotImplementedError

    def loss(self, n_routers: int, n_experts: int, like: Tensor) -> AuxiliaryLoss:
        """The auxiliary loss for G routers over N experts; `like` has the model's type and device."""
        raise NotImplementedError

    def check(self, model_config: Any, pool: Sequence[str]) -> None:
        """See `Method.check`."""
        if not block_parts(model_config):
            forms = " or ".join(", ".join(form.parts) for form in FORMS)
            raise Unsupported(
                f"{self.name} puts its experts into feed-forward blocks with {forms}, and models of type "
                f"{model_config.model_type} have none: choose another base model, or leave the method out."
            )
        if wrong := misformed_blocks(model_config):
            raise Unsupported(
                f"The feed-forward blocks of models of type {model_config.model_type} ({wrong}) have "
                f"{', '.join(block_parts(model_config))} but do not compute what blocks of these parts do: choose "
                f"another base model, or leave {self.name} out."
            )
        if double := [target for target in self.targets() if target in BLOCK_PARTS]:
            raise Unsupported(f"The experts of {self.name} are on {double[0]} already: leave it out of lora.targets.")
        super().check(model_config, pool)
        self.config.route.check(len(self.names(pool)))

    def install(self, model: nn.Module, experts: Sequence[Expert], *, seed: int) -> BlockComposed:
        """See `Method.install`; `experts` is not looked at."""
        config = self.config
        lora = config.lora
        inside = lora.model_copy(update={"targets": parts_of(model)}).fresh(model, self.names(), seed)
        plain = lora.fresh(model, ["attention"], seed)[0] if lora.targets else None

        def install() -> BlockComposed:
            return install_blocks(
                model,
                inside,
                plain,
                RoutingContext(),
                lambda name, linear: self.provider(name, linear, seed),
                config.route.sparsifier(),
                jitter=config.route.jitter,
                dropout=lora.dropout or 0.0,
                masks_each=config.masks_each,
                update_only=self.update_only,
                loss=self.loss,
            )

        return starting_as_base(model, self.name, install)


class BlockBalance(PickBalance):
    """Balance of picks, of each layer or of all layers' tokens at once."""

    packs = True
    config: MixLoraLossConfig

    def shares(self, batch: RoutingBatch) -> tuple[Tensor, Tensor]:
        """See `PickBalance.shares`."""
        p, f = super().shares(batch)
        return (p.mean(0), f.mean(0)) if self.config.aux.concat_layers else (p, f)


class MixLora(BlockMethod):
    """Top-2 routing of feed-forward LoRA experts with a balance loss per layer."""

    version: ClassVar[int] = 2  # 1 had one dropout mask for all experts
    Config: ClassVar[type[MethodConfig]] = MixLoraConfig
    source_rates: ClassVar[Mapping[str, float]] = {"lora.lr": 2e-4}
    config: MixLoraConfig

    def provider(self, name: str, linear: nn.Linear, seed: int) -> LinearRouter:
        """See `BlockMethod.provider`."""
        router, n_experts = self.config.router, len(self.names())
        return LinearRouter(n_experts, linear.in_features, router, name=name, seed=seed, like=weight_like(linear))

    def loss(self, n_routers: int, n_experts: int, like: Tensor) -> BlockBalance:
        """See `BlockMethod.loss`."""
        return BlockBalance(n_routers, n_experts, self.config.loss, like, self.config.route.sparsifier().train_k)
