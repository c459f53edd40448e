"""From a pool and a choice of parts to a model with routed layers in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from methods.base import Expert, Unsupported
from methods.experts import pool_sites
from methods.routing.auxiliary import AuxiliaryLoss
from methods.routing.composed import RoutedComposed
from methods.routing.config import Scope
from methods.routing.context import RoutingContext
from methods.routing.factors import MakeFactors
from methods.routing.frozen import input_device
from methods.routing.groups import InputGroup, RoutedGroup, StaticGroup, TrainedSite
from methods.routing.inject import input_groups, layer_of
from methods.routing.linear import RoutedLinear
from methods.routing.providers import Provider
from methods.routing.router import Follower, HardRouting, Router, WeightSource
from methods.routing.sides import reads_encoder
from methods.routing.sparsify import Sparsifier

MakeProvider = Callable[[str, RoutedLinear], Provider]
MakeLoss = Callable[[int, int, Tensor], AuxiliaryLoss]
Watch = Callable[[Sequence[RoutedLinear], WeightSource], WeightSource]


@dataclass(frozen=True)
class Routing:
    """How tokens are routed.

    Attributes:
        provider: makes the router of a name (the site whose input it reads; `global` for the router of all layers).
        sparsifier: turns logits into weights.
        scope: which sites share a router. `per_projection`: none; `shared_qkv`: those that read one input;
            `per_layer`: all of a layer, by the input of its first site (in a decoder that reads an encoder, those that
            read one sequence); `global`: as `per_layer`, with one matrix for all layers.
        jitter: noise on the routers' input in training.
        loss: makes the auxiliary loss for (number of routers, of experts, a tensor of the model's type and device);
            None for no loss.
        watch: wraps the weight source of sites that read one input, for losses that look at more than routers.
    """

    provider: MakeProvider
    sparsifier: Sparsifier
    scope: Scope = "per_projection"
    jitter: float = 0.0
    loss: MakeLoss | None = None
    watch: Watch | None = None


def install_routed(
    model: nn.Module,
    experts: Sequence[Expert],
    context: RoutingContext,
    routing: Routing,
    *,
    train_experts: bool | MakeFactors = False,
    dropout: float = 0.0,
    masks_each: bool = False,
    fuse: bool = True,
    handle: type[RoutedComposed] = RoutedComposed,
) -> RoutedComposed:
    """Put routed layers with weights for each token wherever an expert of the pool has factors.

    Args:
        model: the base model; frozen until uninstalled.
        experts: the pool, in order.
        context: shared by all layers.
        routing: how tokens are routed.
        train_experts: whether the experts' factors are parameters of the group `experts`, or what makes them.
        dropout: of trained experts' inputs.
        masks_each: whether every trained expert has a dropout mask of its own, instead of one for all of a site.
        fuse: whether sites that read one input are computed together; results are the same.
        handle: class of what is returned.

    Raises:
        AdapterError: an expert does not fit the model.
        Unsupported: a global router over inputs of different widths.
    """
    sites = _sites(model, experts, train_experts, dropout)
    widths = {name: site.in_features for name, site in sites.items()}
    if routing.scope == "global" and (reason := one_width(widths)):
        raise Unsupported(f"{reason[0].upper()}{reason[1:]}.")
    fuse = fuse and not train_experts
    shared: dict[str, Router] = {}
    routers: list[Router] = []
    groups: list[InputGroup | TrainedSite] = []
    for family in input_groups(list(sites)):
        for members in [family] if fuse else [[name] for name in family]:
            source = _source(members, family, sites, context, routing, len(experts), shared)
            if isinstance(source, Router):
                routers.append(source)
            group = [sites[name] for name in members]
            made: RoutedGroup | TrainedSite
            made = TrainedSite(group[0], source, each=masks_each) if train_experts else RoutedGroup(group, source)
            if routing.watch is not None:
                made.source = routing.watch(group, source)
            groups.append(made)
    # Losses are taken where the model is given its inputs, whichever devices its layers are on.
    like = next(iter(sites.values())).weight.new_empty(0, device=input_device(model))
    n_routers = sum(len(router.names) for router in routers)
    loss = None if routing.loss is None else routing.loss(n_routers, len(experts), like)
    names = [expert.name for expert in experts]
    return handle(model, context, names, list(sites.values()), groups, routers, loss)


def install_static(
    model: nn.Module, experts: Sequence[Expert], weights: Callable[[str], Sequence[float]]
) -> RoutedComposed:
    """Put frozen experts in with constant weights (`weights(site)`, one per expert), folded into their factors.

    Raises:
        AdapterError: an expert does not fit the model.
    """
    sites = _sites(model, experts, False, 0.0)
    groups = [
        StaticGroup([sites[name] for name in members], [weights(name) for name in members])
        for members in input_groups(list(sites))
    ]
    names = [expert.name for expert in experts]
    return RoutedComposed(model, RoutingContext(), names, list(sites.values()), groups, ())


def install_hard(
    model: nn.Module, experts: Sequence[Expert], *, train_experts: bool = True, dropout: float = 0.0
) -> RoutedComposed:
    """Put experts in with every token at its task's own expert (`context.domain`, or the evaluated task).

    Training so on a mixed stream equals training each expert on its own tasks' examples (LoRA-Mixer's stage 1). A
    single expert needs no routing and always counts.

    Raises:
        AdapterError: an expert does not fit the model.
    """
    context = RoutingContext()
    sites = _sites(model, experts, train_experts, dropout)
    source = HardRouting(context, len(experts)) if len(experts) > 1 else None
    groups: list[InputGroup | TrainedSite]
    if train_experts:
        groups = [TrainedSite(site, source) for site in sites.values()]
    elif source is None:
        return install_static(model, experts, lambda site: [1.0])
    else:
        groups = [RoutedGroup([sites[name] for name in members], source) for members in input_groups(list(sites))]
    names = [expert.name for expert in experts]
    return RoutedComposed(model, context, names, list(sites.values()), groups, ())


def one_width(widths: Mapping[str, int]) -> str | None:
    """Why a global router cannot serve these sites, or None.

    Args:
        widths: of their inputs, by module path in the model's order.
    """
    leaders: dict[str, int] = {}
    for first, *_ in input_groups(list(widths)):
        key = layer_of(first) + (" (encoder)" if reads_encoder(first) else "")
        leaders.setdefault(key, widths[first])
    if len(set(leaders.values())) < 2:
        return None
    return "a global router needs inputs of one width: choose router.scope=per_layer"


def _sites(
    model: nn.Module, experts: Sequence[Expert], train: bool | MakeFactors, dropout: float
) -> dict[str, RoutedLinear]:
    sites = {}
    for name in pool_sites(experts, model):
        base = model.get_submodule(name)
        assert isinstance(base, nn.Linear)
        factors = [expert.sites.get(name) for expert in experts]
        sites[name] = RoutedLinear(name, base, factors, train=train, dropout=dropout)
    return sites


def _source(
    members: Sequence[str],
    family: Sequence[str],
    sites: dict[str, RoutedLinear],
    context: RoutingContext,
    routing: Routing,
    n_experts: int,
    shared: dict[str, Router],
) -> WeightSource:
    """A new router for these sites, or one that follows a router which is shared with earlier sites."""

    def new(names: Sequence[str], owners: Sequence[str]) -> Router:
        providers = []
        for name, owner in zip(names, owners, strict=True):
            site = sites[owner]
            # In the model's mode: what a router drops in training must not be dropped in a model that evaluates.
            site.provider = routing.provider(name, site).settled(site.weight).train(site.training)
            providers.append(site.provider)
        return Router(owners, providers, routing.sparsifier, context.side(owners[0]), jitter=routing.jitter)

    if routing.scope == "per_projection":
        return new(members, members)
    key = family[0] if routing.scope == "shared_qkv" else layer_of(members[0])
    if routing.scope != "shared_qkv" and reads_encoder(members[0]):
        # A decoder's layer reads two sequences, and weights of one do not fit the other.
        key += " (encoder)"
    if key in shared:
        shared[key].followed = True
        return Follower(shared[key])
    first = members[0]
    if routing.scope == "global" and shared:
        provider = next(iter(shared.values())).providers[0]
        router = Router([first], [provider], routing.sparsifier, context.side(first), jitter=routing.jitter)
    else:
        router = new(["global" if routing.scope == "global" else first], [first])
    shared[key] = router
    return router
