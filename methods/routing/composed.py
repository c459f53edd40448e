"""The handle of a base model with routed layers in it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from methods.base import Composed, Expert, LossTerm, SiteFactors, Unsupported
from methods.routing.auxiliary import AuxiliaryLoss
from methods.routing.context import CountedTokens, RoutingContext
from methods.routing.diagnostics import Collector
from methods.routing.groups import InputGroup, RoutedGroup, StaticGroup, TrainedSite
from methods.routing.head import WholeLogits
from methods.routing.inject import Freeze, Injection, layer_of
from methods.routing.linear import RoutedLinear
from methods.routing.passes import PassHook
from methods.routing.probe import require_visits
from methods.routing.router import Router
from methods.routing.states import StateCounts
from methods.routing.statistics import RoutingBatch


class RoutedComposed(Composed):
    """Routed layers installed on a model; `methods.routing.build` makes them.

    Parameter groups: `routers` (named by the site whose input they read), `experts` (where trained) and `loss`.

    It `packs` where its providers and its loss do: training may then lay sequences end to end, `[1, t]` with positions
    that start anew and attention of each to itself, and every token has the weights, every micro-batch the auxiliary
    losses, that a padded batch gives. `context.domain` is each token's then. Not where weights or losses belong to a
    sequence, where padding counts, or where noise is drawn for each position; the engine looks to dropout itself.
    """

    def __init__(
        self,
        model: nn.Module,
        context: RoutingContext,
        experts: Sequence[str],
        sites: Sequence[RoutedLinear],
        groups: Sequence[InputGroup | TrainedSite],
        routers: Sequence[Router],
        loss: AuxiliaryLoss | None = None,
    ) -> None:
        super().__init__(model, context, experts)
        self.routers = tuple(routers)
        self.loss = loss
        if loss is not None:
            loss.layers = [layer_of(name) for router in routers for name in router.names]
        self.stats_scope = None if loss is None else loss.config.stats_scope
        self.packs = (loss is None or loss.packs) and all(
            provider.packs and not router.jitter for router in routers for provider in router.providers
        )
        self._own: int | None = None
        self._routed = {site.name: site for site in sites}
        self._groups = tuple(groups)
        self.sites.update(self._routed)
        self._freeze: Freeze | None = Freeze(model)
        try:
            self._injection = Injection(model, self.sites)
            self._look()
        except BaseException:
            self._freeze.undo()
            raise
        self._head = WholeLogits(model, [site for site in sites if getattr(site, "whole", False)])
        self._collector = Collector(self.routers, context)
        self._hook = PassHook(model, context, (self._collector, *groups, *routers))
        self._state_counts = StateCounts(model, context, self._hook)
        context.listeners.append(self)

    def _look(self) -> None:
        """Tell sites whose tokens they see, and whether text passes those that must see every token.

        Raises:
            Unsupported: it does not; they are taken out again.
        """
        constant = {
            site.name
            for group in self._groups
            if isinstance(group, InputGroup) and not isinstance(group, RoutedGroup)
            for site in group.sites
        }
        for site in self._routed.values():
            site.side = self.context.side(site.name)
        try:
            with self.bypassed():
                require_visits(self.model, [name for name in self._routed if name not in constant])
        except BaseException:
            self._injection.undo()
            raise

    def groups(self) -> dict[str, dict[str, nn.Parameter]]:
        """See `Composed.groups`."""
        routers = {
            f"routers.{name}.{leaf}": parameter
            for name, provider in self._providers().items()
            for leaf, parameter in provider.named_parameters()
        }
        experts = {
            f"experts.{self.experts[expert]}.{name}.{side}": parameter
            for name, site in self._routed.items()
            if site.trainable is not None
            for expert, slot in enumerate(site.trainable.slots)
            if slot is not None
            for side, parameter in (("A", site.trainable.A[slot]), ("B", site.trainable.B[slot]))
        }
        loss = {} if self.loss is None else {f"loss.{n}": p for n, p in self.loss.parameters().items()}
        found = {"routers": routers, "experts": experts, "loss": loss}
        return {name: group for name, group in found.items() if group}

    def _providers(self) -> dict[str, nn.Module]:
        """Distinct providers by the name of the first router that uses them."""
        named: dict[str, nn.Module] = {}
        seen: set[int] = set()
        for router in self.routers:
            for name, provider in zip(router.names, router.providers, strict=False):
                if id(provider) not in seen:
                    seen.add(id(provider))
                    named[name] = provider
        return named

    def stored(self) -> dict[str, int]:
        """Parameters of the frozen experts, padding not counted, and what routers keep that is never trained."""
        count = sum(
            factor.A.numel() + factor.B.numel()
            for site in self._routed.values()
            if site.trainable is None
            for factor in site.factors
            if factor is not None
        )
        kept = sum(buffer.numel() for provider in self._providers().values() for buffer in provider.buffers())
        return {name: n for name, n in (("experts", count), ("routers", kept)) if n}

    def losses(self) -> dict[str, LossTerm]:
        """See `Composed.losses`; the records of the pass are used up.

        Raises:
            RuntimeError: there was no training pass (`context.training`) since the last call.
        """
        if self.loss is None:
            return {}
        records = [router.record for router in self.routers if router.record is not None]
        if len(records) != len(self.routers):
            raise RuntimeError("losses need a forward pass with context.training set since the last call.")
        tokens: CountedTokens = self.loss.config.stats_tokens
        sides = self.context.side_counts(whole_window=self.stats_scope != "microbatch")
        batch = RoutingBatch(records, self.context.counted(tokens), sides)
        terms = self.loss(batch, self.context.progress)
        for router in self.routers:
            router.record = None
        return terms

    def on_statistics_end(self) -> None:
        """See `Composed.on_statistics_end`."""
        if self.loss is not None:
            self.loss.statistics.end_pass()

    def on_window_end(self) -> None:
        """See `Composed.on_window_end`."""
        if self.loss is not None:
            self.loss.end_window()

    def _learned(self) -> dict[str, Tensor]:
        """Persistent buffers of routers: what fitting has computed rather than trained."""
        return {
            f"routers.{name}.{leaf}": value
            for name, provider in self._providers().items()
            for leaf, value in provider.state_dict(keep_vars=True).items()
            if not isinstance(value, nn.Parameter)
        }

    def state(self) -> dict[str, Tensor]:
        """Trained parameters, what routers have computed, and running statistics."""
        learned = {name: value.clone() for name, value in self._learned().items()}
        return super().state() | learned | ({} if self.loss is None else self.loss.state())

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`; refuses missing or unexpected names with KeyError."""
        statistics, learned = {} if self.loss is None else self.loss.state(), self._learned()
        others = statistics.keys() | learned.keys()
        super().load_state({name: value for name, value in state.items() if name not in others})
        if missing := others - state.keys():
            raise KeyError(f"state names differ: {sorted(missing)}")
        for name, value in learned.items():
            value.copy_(state[name])
        if self.loss is not None:
            self.loss.load_state(state)

    @contextmanager
    def bypassed(self) -> Iterator[None]:
        """Inside the block every site is its frozen layer alone."""
        for site in self._routed.values():
            site.bypassed = True
        try:
            yield
        finally:
            for site in self._routed.values():
                site.bypassed = False

    def use_kernels(self, on: bool = True) -> None:
        """Let GPU kernels compute what lies between the products in passes without gradients: equal up to rounding.

        Passes that train, collect diagnostics or have other weights than a softmax of the largest logits of a router of
        their input alone are as before.

        Args:
            on: False leaves them out again.

        Raises:
            Unsupported: Triton is not installed.
        """
        try:
            kernels = importlib.import_module("methods.routing.kernels") if on else None
        except ImportError as error:
            raise Unsupported("Kernels of routing need Triton: install it, or leave them out.") from error
        for group in self._groups:
            if isinstance(group, RoutedGroup):
                group.kernels = kernels

    def reset_diagnostics(self) -> None:
        """Called by the context when a task begins."""
        self._own = self.context.own_expert
        self._collector.reset()

    def diagnostics(self) -> dict[str, Any] | None:
        """See `Composed.diagnostics`."""
        return self._collector.summary(self.experts, self._own) if self.routers else None

    def tally(self) -> dict[str, Tensor]:
        """See `Composed.tally`."""
        return self._collector.state()

    def load_tally(self, tally: Mapping[str, Tensor]) -> None:
        """See `Composed.load_tally`."""
        self._collector.load_state(tally)

    def expert(self, name: str) -> Expert:
        """An expert as it is now: a copy of its trained factors, or the frozen ones it came with."""
        index = self.experts.index(name)
        sites = {}
        for path, site in self._routed.items():
            factors = site.factors[index] if site.trainable is None else site.trainable.expert(index)
            if factors is not None:
                sites[path] = factors
        return Expert(name, sites)

    def merged(self, name: str) -> Expert:
        """See `Composed.merged`: constant weights, or one trained expert without a router."""
        sites: dict[str, SiteFactors] = {}
        for group in self._groups:
            if isinstance(group, StaticGroup):
                sites |= {site.name: group.factors(index) for index, site in enumerate(group.sites)}
            elif isinstance(group, TrainedSite) and group.source is None and len(group.site.factors) == 1:
                only = group.factors.expert(0)
                sites |= {} if only is None else {group.site.name: only}
        if self.routers or sites.keys() != self._routed.keys():
            return super().merged(name)
        return Expert(name, sites)

    def uninstall(self) -> None:
        """See `Composed.uninstall`; a second call does nothing."""
        if self._freeze is None:
            return
        self._state_counts.remove()
        self._hook.remove()
        self._head.undo()
        self._injection.undo()
        self._freeze.undo()
        self._freeze = None
        self.context.listeners.remove(self)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
