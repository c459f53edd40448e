"""Experts on disk and in memory: any PEFT LoRA directory becomes an `Expert`, and an `Expert` becomes one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from methods.adapter_file import read_adapter
from methods.adapters import AdapterError, adapter_digest, weight_file
from methods.base import Expert, SiteFactors
from methods.fitting import check_fits
from methods.routing.tokens import in_towers, towers
from methods.seeding import generator
from results.ground.errors import NotFinite
from results.ground.files import make_folder


def load_expert(name: str, folder: Path) -> Expert:
    """Read a PEFT LoRA directory; factors stay in the type they are stored in, on the CPU.

    Handles `rank_pattern`, `alpha_pattern` and rsLoRA. Sites are module paths relative to the base model.

    Raises:
        AdapterError: not plain LoRA on linear layers (DoRA, biases, saved modules, embeddings, other PEFT types), or
            files that contradict each other; see `methods.adapter_file.read_adapter`.
        NotFinite: a factor is not finite.
    """
    adapter = read_adapter(folder)
    tensors = _read_tensors(weight_file(folder))
    for key in (adapter.key(site, side) for site in adapter.sites for side in "AB"):
        if not bool(tensors[key].isfinite().all()):
            raise NotFinite(f"The adapter at {folder} holds {key} with elements that are not finite: train it again.")
    sites = {
        site: SiteFactors(tensors[adapter.key(site, "A")], tensors[adapter.key(site, "B")], adapter.config.scale(site))
        for site in adapter.sites
    }
    copies = {name: tensors[key] for name, (_, key) in adapter.copies.items()}
    return Expert(name, sites, adapter_digest(folder), copies)


def save_expert(
    expert: Expert,
    folder: Path,
    *,
    base_model: str,
    target_modules: Sequence[str] | None = None,
    lora_dropout: float = 0.0,
    task_type: str = "CAUSAL_LM",
) -> Expert:
    """Write an expert as a PEFT adapter directory that plain `peft` loads to the same function.

    Args:
        expert: its scale at each site becomes `lora_alpha = scale * r`; the commonest pair of rank and alpha is the
            configuration's, the others go into `rank_pattern` and `alpha_pattern`.
        folder: made if missing.
        base_model: recorded as `base_model_name_or_path`.
        target_modules: recorded as given (e.g. `["q_proj", "v_proj"]`); None records every module path.
        lora_dropout: recorded.
        task_type: PEFT's task type.

    Returns:
        The expert with the directory's digest.
    """
    from peft import LoraConfig
    from safetensors.torch import save_file

    shapes = {
        site: (factors.A.shape[0], _whole(factors.scale * factors.A.shape[0])) for site, factors in expert.sites.items()
    }
    (rank, alpha), _ = Counter(shapes.values()).most_common(1)[0]
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # PEFT takes any number
        rank_pattern={re.escape(site): r for site, (r, _) in shapes.items() if r != rank},
        alpha_pattern={re.escape(site): a for site, (_, a) in shapes.items() if a != alpha},
        target_modules=list(target_modules or sorted(expert.sites)),
        lora_dropout=lora_dropout,
        bias="none",
        task_type=task_type,
        base_model_name_or_path=base_model,
        inference_mode=True,
    )
    make_folder(folder)
    config.save_pretrained(str(folder))
    tensors = {}
    for site, factors in expert.sites.items():
        tensors[f"base_model.model.{site}.lora_A.weight"] = factors.A.detach().cpu().contiguous()
        tensors[f"base_model.model.{site}.lora_B.weight"] = factors.B.detach().cpu().contiguous()
    save_file(tensors, str(folder / "adapter_model.safetensors"), metadata={"format": "pt"})
    return Expert(expert.name, expert.sites, adapter_digest(folder))


def new_expert(name: str, model: nn.Module, targets: Sequence[str], *, r: int, lora_alpha: float, seed: int) -> Expert:
    """An untrained float32 expert: A Kaiming-uniform with a = sqrt(5) (PEFT's default), B zero.

    Args:
        name: with `seed` and the module path it determines the numbers.
        model: the base model.
        targets: last parts of module paths, e.g. `q_proj`.
        r: rank.
        lora_alpha: the scale is `lora_alpha / r`.
        seed: of the run.

    Raises:
        AdapterError: the model has no linear layer of a target name.
    """
    sites = {}
    for site, linear in linear_sites(model, targets).items():
        bound = linear.in_features**-0.5
        A = torch.empty(r, linear.in_features).uniform_(-bound, bound, generator=generator("expert", name, seed, site))
        sites[site] = SiteFactors(A, torch.zeros(linear.out_features, r), lora_alpha / r)
    return Expert(name, sites)


def linear_sites(model: nn.Module, targets: Sequence[str]) -> dict[str, nn.Linear]:
    """Linear layers whose module path ends in one of the targets, in the model's order.

    Those of towers that text does not pass (of a vision model inside) are left out: they would never be trained.

    Raises:
        AdapterError: a target that no linear layer has.
    """
    outside = towers(model)
    found = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and _leaf(path, targets) is not None and not in_towers(path, outside)
    }
    missing = set(targets) - {_leaf(path, targets) for path in found}
    if missing:
        raise AdapterError(
            f"The model {type(model).__name__} has no linear layers named {', '.join(sorted(missing))}: "
            "choose target modules that it has."
        )
    return found


def pool_sites(experts: Sequence[Expert], model: nn.Module) -> list[str]:
    """Module paths where any expert has factors, in the model's order, after checking that all fit.

    Raises:
        AdapterError: see `check_fits`.
    """
    for expert in experts:
        check_fits(expert, model)
    wanted = {site for expert in experts for site in expert.sites}
    return [path for path, _ in model.named_modules() if path in wanted]


def _leaf(path: str, targets: Sequence[str]) -> str | None:
    return next((t for t in targets if path == t or path.endswith(f".{t}")), None)


def _read_tensors(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(path))
        loaded: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return loaded
    except Exception as error:  # both formats have their own families of errors
        raise AdapterError(f"The file {path} cannot be read ({error}): fetch or save the adapter again.") from error


def _whole(value: float) -> float:
    """Alpha as an integer where it is one but for rounding, as PEFT's own files have it."""
    return round(value) if abs(value - round(value)) < 1e-9 else value
