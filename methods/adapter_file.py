"""An adapter's weights file by its header: which layers it holds factors for, of which shapes, without reading them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from methods.adapters import AdapterConfig, read_config, weight_file
from methods.patterns import AdapterError

_PREFIX = "base_model.model."
_FACTOR = re.compile(r"(?P<site>.+)\.lora_(?P<side>[AB])\.weight")
_COPY = re.compile(r"(?P<site>.+?)(?:\.base_layer)?\.(?P<leaf>weight|bias)")


@dataclass(frozen=True)
class SiteShape:
    """One expert's LoRA at one site: A is `[rank, d_in]`, B is `[d_out, rank]`."""

    rank: int
    d_out: int
    d_in: int


@dataclass(frozen=True)
class Adapter:
    """A PEFT LoRA directory as far as headers say.

    Attributes:
        folder: where it lies.
        config: what its configuration says.
        sites: shapes by module path relative to the base model.
        copies: parameters of the base model that the file repeats, as PEFT's `save_embedding_layers` has it: shape and
            the file's key by parameter name.
    """

    folder: Path
    config: AdapterConfig
    sites: Mapping[str, SiteShape]
    copies: Mapping[str, tuple[tuple[int, ...], str]]

    def key(self, site: str, side: str) -> str:
        """Name of a factor in the weights file; `side` is A or B."""
        return f"{_PREFIX}{site}.lora_{side}.weight"


def read_adapter(folder: Path) -> Adapter:
    """Read the configuration and the header of the weights file, and see that they agree.

    Raises:
        AdapterError: see `methods.adapters.read_config`; the weights file is missing, cut or of another format; it
            holds something other than LoRA on linear layers; or the two contradict each other.
    """
    config = read_config(folder)
    halves: dict[str, dict[str, tuple[int, ...]]] = {}
    copies = {}
    for key, shape in _header(weight_file(folder)).items():
        factor = _FACTOR.fullmatch(key.removeprefix(_PREFIX))
        copy = _COPY.fullmatch(key.removeprefix(_PREFIX))
        if not key.startswith(_PREFIX) or (factor is None and (copy is None or ".lora_" in key)):
            raise AdapterError(
                f"The adapter at {folder} holds {key} of shape {shape}, which is not LoRA on a linear layer as PEFT "
                f"names it ({_PREFIX}LAYER.lora_A.weight): leave it out of the expert's training."
            )
        if factor is None:
            assert copy is not None
            copies[f"{copy['site']}.{copy['leaf']}"] = (shape, key)
        elif len(shape) != 2:
            raise AdapterError(
                f"The adapter at {folder} holds {key} of shape {shape}, which is not LoRA on a linear layer: leave it "
                "out of the expert's training."
            )
        else:
            halves.setdefault(factor["site"], {})[factor["side"]] = shape
    if not halves:
        raise AdapterError(f"The adapter at {folder} holds no LoRA factors: give a trained adapter.")
    sites = {site: _site(folder, config, site, half) for site, half in sorted(halves.items())}
    return Adapter(folder, config, sites, copies)


def _site(folder: Path, config: AdapterConfig, site: str, half: Mapping[str, tuple[int, ...]]) -> SiteShape:
    if half.keys() != {"A", "B"} or half["A"][0] != half["B"][1]:
        raise AdapterError(f"The adapter at {folder} lacks one of two matching factors at {site}: save it again.")
    if not config.names(site):
        raise AdapterError(
            f"The adapter at {folder} holds factors at {site}, which target_modules, exclude_modules or "
            "layers_to_transform of its configuration leave out, so that PEFT ignores them: make them agree."
        )
    if half["A"][0] != config.rank(site):
        raise AdapterError(
            f"The adapter at {folder} has rank {half['A'][0]} at {site} but its configuration says "
            f"{config.rank(site)}: mend r or rank_pattern."
        )
    return SiteShape(half["A"][0], half["B"][0], half["A"][1])


def _header(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes by key.

    Raises:
        AdapterError: the file is cut, of another format, or holds something other than numbers.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(str(path), "np") as file:
                slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118  # not iterable
                kinds = {key: part.get_dtype() for key, part in slices.items()}
                shapes = {key: tuple(part.get_shape()) for key, part in slices.items()}
            odd = {key: kind for key, kind in kinds.items() if not kind.startswith(("F", "BF"))}
        else:
            import torch

            loaded: Any = torch.load(path, map_location="meta", weights_only=True)
            shapes = {key: tuple(value.shape) for key, value in loaded.items()}
            odd = {key: str(value.dtype) for key, value in loaded.items() if not value.is_floating_point()}
    except Exception as error:  # both formats have their own families of errors
        said = " ".join(str(error).split()).rstrip(".")
        raise AdapterError(
            f"The file {path} cannot be read ({said[:200]}): fetch or save the adapter again."
        ) from error
    if odd:
        key, kind = next(iter(odd.items()))
        raise AdapterError(f"The file {path} holds {key} as {kind}, which is no type of factors: save it again.")
    return shapes
