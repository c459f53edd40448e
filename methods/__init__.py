"""Ways of composing and routing LoRA experts, behind one interface. Importing this package does not import torch.

model = methods.load("my-mixer")          # a plain transformers model; model.lora_composed is the handle
model.generate(...)
methods.unload(model)                     # the base again, to the bit
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from methods.saving import load, save, unload

__all__ = ["load", "save", "unload"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from methods import saving

        return getattr(saving, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
