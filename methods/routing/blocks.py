"""Models with routed feed-forward blocks, and plain LoRAs beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from methods.base import Expert, Unsupported
from methods.routing.auxiliary import AuxiliaryLoss
from methods.routing.build import MakeLoss
from methods.routing.composed import RoutedComposed
from methods.routing.context import RoutingContext
from methods.routing.ffn import RoutedBlock, check_form, feedforward_blocks, form_of
from methods.routing.frozen import input_device, weight_like
from methods.routing.groups import TrainedSite
from methods.routing.linear import RoutedLinear
from methods.routing.providers import Provider
from methods.routing.router import Router
from methods.routing.sparsify import Sparsifier

MakeBlockProvider = Callable[[str, nn.Linear], Provider]
"""The router of a block, from its path and a projection that reads its input."""


class BlockComposed(RoutedComposed):
    """Routed blocks installed on a model.

    Parameter groups: `routers`, `experts` (of the blocks), `attention` (plain LoRAs) and `loss`.
    """

    def __init__(
        self,
        model: nn.Module,
        context: RoutingContext,
        experts: Sequence[str],
        blocks: Sequence[RoutedBlock],
        plain: Sequence[RoutedLinear],
        routers: Sequence[Router],
        loss: AuxiliaryLoss | None,
    ) -> None:
        self.blocks = tuple(blocks)
        self.plain = tuple(plain)
        modules: list[Any] = [*blocks, *plain]
        super().__init__(model, context, experts, modules, [TrainedSite(site, None) for site in plain], routers, loss)

    def groups(self) -> dict[str, dict[str, nn.Parameter]]:
        """See `Composed.groups`."""
        found = super().groups()
        found["experts"] = {name: p for block in self.blocks for name, p in block.trained(self.experts).items()}
        if self.plain:
            found["attention"] = {
                f"attention.{site.name}.{side}": parameter
                for site in self.plain
                if site.trainable is not None
                for side, parameter in (("A", site.trainable.A[0]), ("B", site.trainable.B[0]))
            }
        return found

    def expert(self, name: str) -> Expert:
        """A copy of one expert's factors on the projections of all blocks."""
        index = self.experts.index(name)
        return Expert(name, {path: f for block in self.blocks for path, f in block.expert(index).items()})


def install_blocks(
    model: nn.Module,
    experts: Sequence[Expert],
    plain: Expert | None,
    context: RoutingContext,
    provider: MakeBlockProvider,
    sparsifier: Sparsifier,
    *,
    jitter: float = 0.0,
    dropout: float = 0.0,
    masks_each: bool = False,
    update_only: bool = False,
    loss: MakeLoss | None = None,
) -> BlockComposed:
    """Replace every feed-forward block by a routed one whose experts are trained.

    Args:
        model: the base model; frozen until uninstalled.
        experts: factors at the projections of every block.
        plain: a LoRA elsewhere that every token uses, trained too; None for none.
        context: shared by all blocks.
        provider: makes the router of a block.
        sparsifier: turns logits into weights.
        jitter: noise on the routers' input in training.
        dropout: on the input of every A in training.
        masks_each: whether every expert has a dropout mask of its own, instead of one for all of a block.
        update_only: whether weights scale what experts add to the base's output alone, see `RoutedBlock`.
        loss: makes the auxiliary loss, see `Routing`.

    Raises:
        Unsupported: the model has no feed-forward blocks of a known form, or they do not compute what it says.
    """
    found = feedforward_blocks(model)
    if not found:
        raise Unsupported(
            f"{type(model).__name__} has no feed-forward blocks of a known form: choose another base model."
        )
    blocks, routers = [], []
    for path, base in found.items():
        form = form_of(base)
        assert form is not None
        gate = base.get_submodule(form.inner[0])
        assert isinstance(gate, nn.Linear)
        made = provider(path, gate).settled(weight_like(gate))
        routers.append(Router([path], [made], sparsifier, context, jitter=jitter))
        factors = {part: [expert.sites[f"{path}.{part}"] for expert in experts] for part in form.parts}
        block = RoutedBlock(
            path,
            base,
            factors,
            made,
            routers[-1],
            dropout=dropout,
            masks_each=masks_each,
            update_only=update_only,
        )
        blocks.append(block)
        if all(not factor.B.any() for each in factors.values() for factor in each if not factor.B.is_meta):
            check_form(path, base, blocks[-1])
    beside = []
    for path, single in {} if plain is None else plain.sites.items():
        linear = model.get_submodule(path)
        assert isinstance(linear, nn.Linear)
        beside.append(RoutedLinear(path, linear, [single], train=True, dropout=dropout))
    like = blocks[0].weight.new_empty(0, device=input_device(model))
    term = None if loss is None else loss(len(routers), len(experts), like)
    return BlockComposed(model, context, [expert.name for expert in experts], blocks, beside, routers, term)
