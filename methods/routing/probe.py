"""Whether a model is what a method takes it for, tried out on a few tokens where the method is put in.

Names of classes and models are no evidence: blocks of one shape differ in their forward, mixers hand weights of layers
to fused kernels, vision towers hold layers that text does not pass. On the meta device, where nothing can be computed,
only what is read from code is looked at.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from methods.base import Composed, Unsupported
from methods.routing.frozen import input_device
from methods.routing.sparsify import Sparsifier

if TYPE_CHECKING:
    from methods.routing.router import Router

C = TypeVar("C", bound=Composed)
Weighing = Callable[[Iterable["Router"]], AbstractContextManager[None]]

_ABOUT = frozenset({"dtype", "device", "shape", "is_meta"})
"""Of a layer's weight, what code may ask for without computing with it."""


def refuse_bypassed(model: nn.Module, sites: Iterable[str], *, mended: Iterable[nn.Module] = ()) -> None:
    """Refuse layers whose weight the code of their owner reads by itself, so that a layer in their place is bypassed.

    Which way an owner goes can depend on the device, on training and on installed kernels; its code does not.

    Args:
        model: the base model.
        sites: module paths of layers that something is put in the place of.
        mended: owners that run a forward of this package instead.

    Raises:
        Unsupported: the first such layer.
    """
    exempt = {id(module) for module in mended}
    for site in sites:
        parent, _, leaf = site.rpartition(".")
        owner: Any = model.get_submodule(parent)
        kind: Any = type(owner)
        if id(owner) not in exempt and leaf in _weights_read(kind):
            raise Unsupported(
                f"{kind.__name__} computes with {leaf}.weight itself (in a fused kernel, on some devices), so "
                f"that a LoRA on {site} would be bypassed: leave {leaf} out of the experts' target modules."
            )


@lru_cache(maxsize=64)
def _weights_read(owner: Any) -> frozenset[str]:
    """Names of layers whose `self.NAME.weight` the methods of a class compute with."""
    found: set[str] = set()
    for kind in owner.__mro__:
        if kind.__module__.partition(".")[0] in ("torch", "builtins"):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
        except (OSError, TypeError, SyntaxError):
            # Made without a source file: nothing can be read, and the trial pass is what is left.
            continue
        harmless = {id(part) for node in ast.walk(tree) for part in _only_asked(node)}
        found |= {
            node.value.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr == "weight" and id(node) not in harmless
            if isinstance(node.value, ast.Attribute) and isinstance(node.value.value, ast.Name)
            if node.value.value.id == "self"
        }
    return frozenset(found)


def _only_asked(node: ast.AST) -> list[ast.AST]:
    """Parts of an expression that are asked for their type, device or shape alone."""
    if isinstance(node, ast.Attribute) and node.attr in _ABOUT:
        return [node.value]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "hasattr"):
        return list(node.args)
    return []


def text_logits(model: nn.Module) -> Tensor | None:
    """Logits `[2, 3, vocabulary]` of a few tokens, or last states of a model without a head; no dropout, no graph.

    None on the meta device, and of a module that is no language model (it has no token embeddings).
    """
    whole: Any = model
    if not hasattr(model, "get_input_embeddings") or input_device(model).type == "meta":
        return None
    ids = torch.tensor([[3, 4, 5], [6, 5, 4]], device=input_device(model))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if whole.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    with evaluating(model), torch.no_grad():
        logits: Tensor = model(**inputs, use_cache=False)[0]
    return logits


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside the block a module is in eval mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def summing_to_one(routers: Iterable[Router]) -> Iterator[None]:
    """Inside the block the weights of routers sum to one: others scale what the base does, whatever experts do."""
    before = [(router, router.sparsifier) for router in routers]
    for router, sparsifier in before:
        router.sparsifier = replace(sparsifier, renorm="sum")
    try:
        yield
    finally:
        for router, sparsifier in before:
            router.sparsifier = sparsifier


class Even(Sparsifier):
    """The same weight for every expert, whatever the logits."""

    def __call__(self, logits: Tensor, training: bool) -> Tensor:
        """Weights `[..., N]`, all 1/N."""
        return torch.full_like(logits, 1 / logits.shape[-1])


@contextmanager
def weighing_evenly(routers: Iterable[Router]) -> Iterator[None]:
    """Inside the block the weights of routers are all equal."""
    before = [(router, router.sparsifier) for router in routers]
    for router, _ in before:
        router.sparsifier = Even(None, None)
    try:
        yield
    finally:
        for router, sparsifier in before:
            router.sparsifier = sparsifier


def require_visits(model: nn.Module, sites: Iterable[str]) -> None:
    """Run a few tokens through a model and refuse layers that are not given all of them.

    Args:
        model: with layers put in that act as the base's own for now.
        sites: paths of those that must take part.

    Raises:
        Unsupported: the first layer that text does not pass, or that gets some of the tokens only.
    """
    widths: dict[str, int] = {}

    def note(path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda _module, args: widths.__setitem__(path, args[0].shape[:-1].numel())

    sites = list(sites)
    if not sites:
        return
    handles = [model.get_submodule(path).register_forward_pre_hook(note(path)) for path in sites]
    try:
        logits = text_logits(model)
    finally:
        for handle in handles:
            handle.remove()
    if logits is None:
        return
    for path in sites:
        if path not in widths:
            raise Unsupported(
                f"{type(model).__name__} reads text without calling {path}, so that experts there would do nothing: "
                "leave it out of the experts' target modules."
            )
        if widths[path] != logits.shape[:2].numel():
            raise Unsupported(
                f"{type(model).__name__} gives {path} {widths[path]} of {logits.shape[:2].numel()} tokens, so that "
                "whose they are is not known: leave it out of the experts' target modules."
            )


def starting_as_base(
    model: nn.Module, name: str, install: Callable[[], C], *, weighing: Weighing = summing_to_one
) -> C:
    """Install a method whose experts are untrained, which must leave the base's logits as they are.

    An untrained LoRA adds exact zeros, so logits of a deterministic model are equal to the bit. Some kernels add in an
    order that differs from call to call (and the mixers of `methods.routing.mamba` in an order of their own); a sum in
    another order differs by a rounding of its largest term per layer, far below what another function gives.

    Args:
        model: the base model.
        name: the method's, for the message.
        install: puts it in.
        weighing: what routers' weights are meanwhile: a sum of one, or equal (`weighing_evenly`) where untrained
            experts cancel a part that was taken off the base only on average, and then to rounding.

    Raises:
        Unsupported: the model computes something else from then on; the method is taken out again.
    """
    before = text_logits(model)
    composed = install()
    try:
        with weighing(getattr(composed, "routers", ())):
            after = text_logits(model)
    except BaseException:
        composed.uninstall()
        raise
    if before is None or after is None:
        return composed
    gap, size = float((after - before).abs().max()), float(before.abs().max())
    layers = len(composed.sites)
    if not gap <= layers**0.5 * torch.finfo(before.dtype).eps * size:
        composed.uninstall()
        raise Unsupported(
            f"{name} without training changes the logits of {type(model).__name__} by {gap:.2g}, so the model does "
            "not use its layers as the method takes for granted: choose another base model."
        )
    return composed
