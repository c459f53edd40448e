"""Whether a window of training may be cut into smaller micro-batches without another result."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from methods.base import Composed

_RANDOM = ("drop", "jitter", "noise")
"""Parts of names that transformers and this package give rates of randomness in a forward pass."""


def draws(model: nn.Module) -> bool:
    """Whether a forward pass in training draws random numbers (dropout), one mask a micro-batch.

    Told by the modules' own rates, their `config` left aside: one too many says yes, and nothing is cut.
    """
    return any(
        isinstance(value, int | float) and value > 0
        for module in model.modules()
        for name, value in vars(module).items()
        if _names_a_rate(name, module)
    )


def _names_a_rate(name: str, module: nn.Module) -> bool:
    kind = type(module).__name__.lower()
    return any(word in name.lower() or (name == "p" and word in kind) for word in _RANDOM)


def cuttable(composed: Composed) -> bool:
    """Whether gradients are the same however a window is cut (`harness.training.loop`): nothing is drawn by chance, in
    modules or by routers, which are none, and no statistics are taken inside one micro-batch."""
    jitters = any(router.jitter for router in getattr(composed, "routers", ()))
    return composed.stats_scope != "microbatch" and not jitters and not draws(composed.model)
