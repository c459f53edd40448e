"""Composed models as folders: writing one, and making a plain transformers model of it again."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from methods import registry
from methods.adapters import CONFIG_FILE, adapter_digest, weight_file
from methods.base import Composed, Expert, Method
from methods.experts import load_expert, save_expert
from methods.generation import mark_prompts, unmark_prompts
from methods.manifest import (
    EVERY_TASK,
    MANIFEST,
    Manifest,
    SavedBase,
    SavedExpert,
    SavedFit,
    SavedModelError,
    read_manifest,
)
from methods.routing.frozen import settle
from methods.shapes import config_shapes, differences, model_shapes
from results.ground.files import make_folder
from results.ground.loading import asks_for_its_code, auto_class, peft_task_type

HANDLE = "lora_composed"
"""Attribute of a loaded model that holds the `Composed`."""
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]*")


@dataclass(frozen=True)
class Source:
    """Where an expert came from, so that its files are copied or referred to rather than written anew.

    Attributes:
        folder: its PEFT adapter directory.
        origin: path or hub id that people know it by.
    """

    folder: Path
    origin: str | None = None


def save(
    folder: Path | str,
    composed: Composed,
    method: Method,
    experts: Sequence[Expert],
    *,
    seed: int,
    base: str,
    location: str | None = None,
    revision: str | None = None,
    task: str | None = None,
    own: str | None = None,
    sources: Mapping[str, Source] | None = None,
    refer: bool = False,
) -> Manifest:
    """Write an installed and fitted model into a folder; for a method with `per_task`, one more fit of it.

    Args:
        folder: made if missing; a second fit goes into the folder of the first.
        composed: what `method.install` returned, fitted.
        method: the method, with its configuration.
        experts: the pool that was installed.
        seed: that it was installed with.
        base: name of the base model.
        location: hub id or folder to load the base from; default `base`.
        revision: hub commit, or a hash of the base's files.
        task: that it was fitted for, where the method is fitted for each task.
        own: the pool's expert for that task.
        sources: adapter directories of experts, by name; the others are written from memory.
        refer: keep only the hashes of experts that have a source; their folders are given again to `load`.

    Raises:
        SavedModelError: the folder holds another model, or a task is lacking or given for nothing.
    """
    folder, sources = Path(folder), sources or {}
    if method.per_task() != (task is not None):
        need = "is fitted for each task: give task" if method.per_task() else "has one fit for all tasks: give no task"
        raise SavedModelError(f"{method.name} {need}.")
    make_folder(folder)
    before = read_manifest(folder) if (folder / MANIFEST).exists() else None
    if before is None and any(folder.iterdir()):
        raise SavedModelError(f"The folder {folder} is not empty: choose another.")
    fit = SavedFit(
        task=task,
        own=own,
        experts=tuple(expert.name for expert in experts),
        folder=f"fits/{_file_name(task or EVERY_TASK)}" if composed.state() else None,
        trained={name: sum(p.numel() for p in group.values()) for name, group in composed.groups().items()},
        stored=composed.stored(),
    )
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        ready = {
            expert.name: sources.get(expert.name) or _write_expert(expert, Path(scratch), base, composed.model)
            for expert in experts
        }
        new = Manifest(
            method=method.name,
            version=method.version,
            config=method.config.model_dump(mode="json"),
            seed=seed,
            base=_describe(composed.model, base, location, revision),
            experts=tuple(
                _describe_expert(name, source, refer=refer and name in sources) for name, source in ready.items()
            ),
            fits=(fit,),
        )
        if before is not None and not before.same_but_fits(new):
            raise SavedModelError(f"The folder {folder} holds another composed model: choose another folder.")
        for saved in new.experts:
            if saved.folder is not None:
                _copy_adapter(ready[saved.name].folder, folder / saved.folder)
    if fit.folder is not None:
        (folder / fit.folder).mkdir(parents=True, exist_ok=True)
        composed.save(folder / fit.folder)
    if before is not None:
        known = {expert.name: expert for expert in (*before.experts, *new.experts)}
        fits = (*(fit for fit in before.fits if fit.task != task), *new.fits)
        new = new.model_copy(update={"experts": tuple(known.values()), "fits": fits})
    (folder / MANIFEST).write_text(new.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return new


def load(
    path: Path | str,
    model: Any = None,
    *,
    task: str | None = None,
    experts: Mapping[str, Path | str] | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> Any:
    """A transformers model with a saved composition installed on it; `model.lora_composed` is its handle.

    `model(...)` and `model.generate(...)` work as for any model; `unload` gives the base back.

    Args:
        path: folder that `save` or `harness export` wrote.
        model: a loaded base model, which is changed in place, or a folder or hub id of one; default: the base that the
            manifest names. Another base of equal shapes is allowed.
        task: which fit, where the method has one for each task.
        experts: adapter directories of experts that were saved by reference.
        device: default the CPU, or the device of a model that was given loaded.
        dtype: e.g. `bfloat16`; default that of the saved model, or of a model that was given loaded.

    Raises:
        SavedModelError: a broken folder, another version of the method, a base of other shapes, an expert that is not
            the saved one, or a task that must be chosen.
        methods.registry.UnknownMethod: the method is not installed.
        methods.base.Unsupported: the method cannot be used on this model.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    fit = manifest.fit(task)
    method = _method(manifest)
    pool = [_read_expert(folder, manifest.expert(name), experts or {}) for name in fit.experts]
    loaded = _base(manifest.base, model, device, dtype)
    if hasattr(loaded, HANDLE):
        raise SavedModelError("This model already has a composition on it: call methods.unload(model) first.")
    if unequal := differences(manifest.base.shapes, model_shapes(loaded)):
        raise SavedModelError(
            f"What was composed on {manifest.base.name} does not fit this {type(loaded).__name__}: {unequal}."
        )
    method.check(loaded.config, fit.experts)
    settle(loaded)
    loaded.eval()
    composed = method.install(loaded, pool, seed=manifest.seed)
    try:
        if fit.folder is not None:
            _load_state(composed, folder / fit.folder)
    except BaseException:
        composed.uninstall()
        raise
    composed.context.own_expert = fit.experts.index(fit.own) if fit.own in fit.experts else None
    setattr(loaded, HANDLE, composed)
    mark_prompts(loaded, composed)
    return loaded


def unload(model: Any) -> Any:
    """Take a loaded composition off a model again, which is then the base to the bit.

    Raises:
        SavedModelError: there is none on it.
    """
    composed: Composed | None = getattr(model, HANDLE, None)
    if composed is None:
        raise SavedModelError("This model has no loaded composition on it: it came from elsewhere or was unloaded.")
    composed.uninstall()
    unmark_prompts(model)
    delattr(model, HANDLE)
    return model


def _method(manifest: Manifest) -> Method:
    cls = registry.method_class(manifest.method)
    if cls.version != manifest.version:
        raise SavedModelError(
            f"This {manifest.method} was saved by version {manifest.version} of the method and version {cls.version} "
            "is installed: export it again, or install the release that wrote it."
        )
    return cls(cls.Config.model_validate(manifest.config), name=manifest.method)


def _base(saved: SavedBase, model: Any, device: Any, dtype: Any) -> Any:
    """The base model: the given one, or a loaded one."""
    if isinstance(model, nn.Module):
        if device is not None or dtype is not None:
            model.to(device=device, dtype=_dtype(dtype))
        return model
    from transformers import AutoConfig

    place = saved.location if model is None else str(model)
    revision = saved.revision if model is None and not Path(place).is_dir() else None
    try:
        config = AutoConfig.from_pretrained(place, revision=revision, trust_remote_code=False)
        how: dict[str, Any] = {}
        if saved.quantization is not None:
            from transformers import BitsAndBytesConfig

            quantization = BitsAndBytesConfig.from_dict(dict(saved.quantization))
            # What is quantised is quantised on its device.
            how = {"quantization_config": quantization, "device_map": {"": "cpu" if device is None else device}}
        loaded: Any = auto_class(config).from_pretrained(
            place, revision=revision, dtype=_dtype(dtype or saved.dtype), trust_remote_code=False, **how
        )
    except (OSError, ValueError, ImportError) as error:
        if saved.quantization is not None and isinstance(error, ImportError):
            raise SavedModelError(
                f"The base model {saved.name} was quantised by bitsandbytes: pip install bitsandbytes, or give "
                "methods.load a model=."
            ) from error
        if asks_for_its_code(error):
            raise SavedModelError(
                f"The base model {saved.name} comes with code of its own, which is not run: read it, load the model "
                "with trust_remote_code=True and give it to methods.load as model=."
            ) from error
        raise SavedModelError(
            f"The base model {saved.name} cannot be loaded from {place}: give methods.load a model=, which may be a "
            "folder, a hub id or a loaded model."
        ) from error
    loaded.requires_grad_(False)
    return loaded if how else loaded.to("cpu" if device is None else device)


def _dtype(dtype: Any) -> torch.dtype | None:
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if found is not None and isinstance(found, torch.dtype):
        return found
    if dtype is None:
        return None
    raise SavedModelError(f"There is no floating-point type '{dtype}': choose float32, bfloat16 or float16.")


def _describe(model: nn.Module, name: str, location: str | None, revision: str | None) -> SavedBase:
    return SavedBase(
        name=name,
        location=location or name,
        revision=revision,
        architecture=type(model).__name__,
        dtype=str(next(model.parameters()).dtype).removeprefix("torch."),
        shapes=config_shapes(model.config),
        quantization=_quantization(model),
    )


def _quantization(model: Any) -> dict[str, Any] | None:
    """How a model was quantised when it was loaded; None where it was not, or its own files say it."""
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is None or quantizer.pre_quantized:
        return None
    said: dict[str, Any] = quantizer.quantization_config.to_diff_dict()
    return said


def _describe_expert(name: str, source: Source, *, refer: bool) -> SavedExpert:
    folder = None if refer else f"experts/{_file_name(name)}"
    return SavedExpert(name=name, digest=adapter_digest(source.folder), folder=folder, source=source.origin)


def _write_expert(expert: Expert, scratch: Path, base: str, model: Any) -> Source:
    folder = scratch / _file_name(expert.name)
    save_expert(expert, folder, base_model=base, task_type=peft_task_type(model.config))
    return Source(folder)


def _copy_adapter(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for file in (source / CONFIG_FILE, weight_file(source)):
        shutil.copyfile(file, target / file.name)


def _read_expert(folder: Path, saved: SavedExpert, given: Mapping[str, Path | str]) -> Expert:
    place = folder / saved.folder if saved.folder is not None else given.get(saved.name, saved.source)
    if place is None or not Path(place).is_dir():
        known = f" (it came from {saved.source})" if saved.source else ""
        raise SavedModelError(
            f"The expert '{saved.name}' with hash {saved.digest} was saved by reference{known}: give its adapter "
            f"directory, experts={{'{saved.name}': PATH}}."
        )
    expert = load_expert(saved.name, Path(place))
    if expert.digest != saved.digest:
        raise SavedModelError(
            f"The adapter at {place} is not the expert '{saved.name}' that was saved: its hash is {expert.digest}, "
            f"not {saved.digest}."
        )
    return expert


def _load_state(composed: Composed, folder: Path) -> None:
    """Read a state whose names and shapes are those of the installed model; equal numbers of other shapes would
    otherwise be spread over it."""
    from safetensors import safe_open

    own = {name: tuple(value.shape) for name, value in composed.state().items()}
    try:
        with safe_open(str(folder / "composed.safetensors"), framework="pt") as file:
            read = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError) as error:
        raise SavedModelError(f"The state in {folder} cannot be read ({error}): save the model again.") from error
    unequal = [
        f"{name} is {read.get(name, 'missing')} there and {own.get(name, 'missing')} here"
        for name in sorted(own.keys() | read.keys())
        if own.get(name) != read.get(name)
    ]
    if unequal:
        more = f", and {len(unequal) - 3} more" if len(unequal) > 3 else ""
        raise SavedModelError(f"The saved state does not fit this model: {', '.join(unequal[:3])}{more}.")
    composed.load(folder)


def _file_name(name: str) -> str:
    """A name as a folder's name.

    Raises:
        SavedModelError: it has characters that a folder's name should not have.
    """
    if not _PLAIN.fullmatch(name):
        raise SavedModelError(f"'{name}' cannot name a folder: use letters, digits and . _ @ -.")
    return name
