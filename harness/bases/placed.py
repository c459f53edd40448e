"""Base models that are larger than one device: spread over several, the processor's memory and the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from results.ground.errors import HarnessError

if TYPE_CHECKING:
    from harness.planning.model import ModelSection


DEVICES = ("cpu", "cuda", "mps", "xpu")
"""Kinds of devices that can compute; a kind that is not here or not at hand is refused."""


def resolve_device(name: str) -> str:
    """`auto` is the first CUDA device where there is one, else the CPU.

    Raises:
        HarnessError: a device that torch does not see.
    """
    import torch

    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        # What is written there must come back: `meta` holds nothing.
        device = torch.device(name)
        computes = device.type in DEVICES and torch.ones(1, device=name).item() == 1
        computes = computes and (device.type != "cpu" or device.index in (None, 0))
    except (RuntimeError, AssertionError, ImportError, NotImplementedError):
        computes = False
    if not computes:
        raise HarnessError(f"The device '{name}' is not available here: choose --device cpu or auto.")
    return name


def device_of(section: ModelSection) -> str:
    """Where a configuration's model is computed; `cuda` for all GPUs that it is spread over.

    Raises:
        HarnessError: see `resolve_device`; of each device that it is spread over.
    """
    device = resolve_device(section.device)
    if isinstance(section.device_map, dict):
        for one in sorted({str(one) for one in section.device_map.values()} - {"disk"}):
            resolve_device(f"cuda:{one}" if one.isdigit() else one)
    if not device.startswith("cuda"):
        return device
    return "cuda" if section.device_map is not None else f"cuda:{device.partition(':')[2] or 0}"


def computed_on(model: Any) -> str:
    """The device of a loaded model; `cuda` where it is spread over several GPUs."""
    from methods.routing.frozen import input_device

    places = set(getattr(model, "hf_device_map", {}).values()) - {"cpu", "disk"}
    return "cuda" if len(places) > 1 else str(input_device(model))


def require_places(section: ModelSection, *, quantised: bool) -> None:
    """See that a base can be spread as a configuration says, before anything is loaded.

    Args:
        section: the configuration.
        quantised: whether its weights are packed, by the configuration or in its files.

    Raises:
        HarnessError: bitsandbytes keeps no quantised weights on the processor or the disk beside a GPU's.
    """
    if not isinstance(section.device_map, dict):
        return
    named = {str(device) for device in section.device_map.values()}
    if quantised and named & {"cpu", "disk"} and named != {"cpu"}:
        raise HarnessError(
            "A quantised base model stays on GPUs, or as a whole on the processor, and model.device_map puts parts of "
            "it on the processor or the disk: name GPUs alone, or choose a base that is not quantised."
        )


def loading(section: ModelSection, device: str, *, moves_late: bool) -> dict[str, Any]:
    """Arguments of `from_pretrained` that say where weights go.

    Args:
        section: the configuration.
        device: where a model goes that is not spread.
        moves_late: whether it can be moved there once it is loaded; then nothing is said.
    """
    if section.device_map is None:
        return {} if moves_late else {"device_map": {"": device}}
    limits = section.max_memory
    # A configuration that was written as JSON has its GPUs' numbers as texts.
    most = None if limits is None else {_device(key): value for key, value in limits.items()}
    devices = section.device_map
    spread = {path: _device(one) for path, one in devices.items()} if isinstance(devices, dict) else devices
    return {"device_map": spread} | ({} if most is None else {"max_memory": most})


def _device(name: str | int) -> str | int:
    return int(name) if str(name).isdigit() else name
