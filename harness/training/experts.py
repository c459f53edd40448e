"""Stage 1: one LoRA per expert, trained once and stored as a PEFT adapter directory.

Experts share no parameter, so training each on its own domain equals joint training with hard domain routing
(LoRA-Mixer, arXiv 2507.00029, section 3.2), and the same adapters serve as the single-LoRA row and as the pool of every
method that composes.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.checkpoints import Checkpoint
from harness.planning.sections import ExpertsSection
from methods.seeding import drawing_from
from results.ground.digest import seed_from
from results.ground.errors import HarnessError
from results.ground.loading import peft_task_type
from results.ground.places import place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.models import BaseModel
    from harness.training.data import Encoded
    from harness.training.loop import TrainingLog
    from methods.base import Composed


def outside_folder(name: str, path: str) -> Path:
    """Local folder of an adapter given by path or hub id.

    Raises:
        HarnessError: no adapter there.
    """
    folder = place(path)
    if not folder.is_dir() and path.count("/") == 1 and not path.startswith((".", "/", "~")):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
        )

        try:
            patterns = ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"]
            folder = Path(snapshot_download(path, allow_patterns=patterns))
        except (HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, HFValidationError, OSError) as error:
            raise HarnessError(
                f"The adapter '{path}' of the expert '{name}' cannot be fetched: check its name or your network."
            ) from error
    if not (folder / "adapter_config.json").exists():
        raise HarnessError(
            f"The expert '{name}' has no adapter at {path}: give a folder with an adapter_config.json, or a hub id."
        )
    return folder


def outside_digest(name: str, path: str) -> str:
    """Content hash of an adapter that was not trained here: its configuration and weights, not where it lies."""
    from methods.adapters import adapter_digest

    return adapter_digest(outside_folder(name, path))


def train_expert(
    base: BaseModel,
    rows: Sequence[Encoded],
    section: ExpertsSection,
    *,
    name: str,
    seed: int,
    folder: Path,
    on_step: Callable[[int, int], None] | None = None,
    kept: Checkpoint | None = None,
) -> TrainingLog:
    """Train one LoRA on its own rows and save it with PEFT.

    Args:
        base: the loaded base model; unchanged to the bit afterwards.
        rows: the expert's training rows.
        section: rank, targets and optimisation settings.
        name: the expert's name; with `seed` it determines initial values and order.
        seed: seed of the run.
        folder: receives `adapter_config.json` and `adapter_model.safetensors`.
        on_step: called with (steps done, steps in all).
        kept: of the training, to go on from.
    """
    from harness.training.loop import Recipe, train
    from harness.training.packing import packable, packing_passes
    from harness.training.phases import phase

    # Dropout draws one mask a batch: packed batches would train another expert from the same seed.
    packing = packing_passes(base.model, rows) if not section.lora_dropout and packable(base) else None
    with trainable_lora(base, section, seed_from("expert", name, seed)) as (composed, save):
        order = seed_from("expert", name, "order", seed)
        recipe = Recipe.of(section, {"experts": section.lr}, order, rates={"experts": "experts.lr"})
        given: dict[str, Any] = {"pad_id": pad_token(base.tokenizer), "on_step": on_step, "packing": packing}
        log = phase(
            kept or Checkpoint(),
            "training",
            composed,
            lambda piece: train(composed, rows, ["experts"], recipe, **given, regroup=True, piece=piece),
        )
        save(folder)
    return log


def trained_expert(
    base: BaseModel,
    rows: Sequence[Encoded],
    section: ExpertsSection,
    *,
    kept: Checkpoint,
    name: str,
    **given: Any,
) -> dict[str, Any]:
    """`train_expert`; where memory does not suffice, in micro-batches of half as many rows, and so on, as long as that
    leaves every gradient the same.

    Returns:
        What the training was: `tokens`, `log`, and `notes` where memory was short.
    """
    from harness.training.cutting import draws

    def trained(size: int) -> TrainingLog:
        smaller = section.model_copy(update={"micro_batch_size": size})
        return train_expert(base, rows, smaller, name=name, **given, kept=kept)

    # Dropout draws one mask a micro-batch: smaller ones would give another expert.
    may = not (section.lora_dropout or draws(base.model))
    log, size, asked = kept.in_less_memory(trained, section.micro_batch_size, may=lambda: may)
    short = f"The expert {name} was trained in micro-batches of {size}: memory was short."
    return {"tokens": log.tokens, "log": log.steps} | ({"notes": [short]} if size < asked else {})


@contextmanager
def trainable_lora(
    base: BaseModel, section: ExpertsSection, seed: int
) -> Iterator[tuple[Composed, Callable[[Path], None]]]:
    """A fresh LoRA installed on the base by PEFT: the handle to train it, and a function that saves it.

    Towers that text does not pass are left out: nothing there would be trained.

    Raises:
        HarnessError: the model has no module of the target names, or its code bypasses one.
    """
    from methods.routing.mamba import is_state_space

    if is_state_space(base.model.config):
        with _own_lora(base, section, seed) as made:
            yield made
        return

    import torch

    from methods.base import Composed
    from methods.routing.context import RoutingContext

    wrapped = _wrapped(base, section, seed)

    class _Single(Composed):
        def groups(self) -> dict[str, dict[str, torch.nn.Parameter]]:
            return {"experts": {n: p for n, p in wrapped.named_parameters() if "lora_" in n}}

    def save(folder: Path) -> None:
        # "auto" would ask the hub whether the embedding was resized.
        wrapped.save_pretrained(str(folder), save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)

    try:
        yield _Single(base.model, RoutingContext(), ["expert"]), save
    finally:
        wrapped.unload()
        if hasattr(base.model, "peft_config"):
            del base.model.peft_config
        base.model.requires_grad_(False)
        base.model.eval()


def _wrapped(base: BaseModel, section: ExpertsSection, seed: int) -> Any:
    """The base with PEFT's untrained LoRA on its text layers."""
    from peft import LoraConfig, get_peft_model

    from methods.routing.frozen import with_stand_ins
    from methods.routing.probe import refuse_bypassed
    from methods.routing.tokens import in_towers, towers

    outside = towers(base.model)
    named = [path for path, _ in base.model.named_modules() if path.rpartition(".")[2] in section.targets]
    refuse_bypassed(base.model, [path for path in named if not in_towers(path, outside)])
    alpha = section.alpha
    config = LoraConfig(
        r=section.rank,
        lora_alpha=int(alpha) if float(alpha).is_integer() else alpha,  # type: ignore[arg-type]
        lora_dropout=section.lora_dropout,
        target_modules=list(section.targets),
        exclude_modules=rf"(?:{'|'.join(map(re.escape, outside))})\..*" if outside else None,
        bias="none",
        task_type=peft_task_type(base.model.config),
    )
    with drawing_from(seed), warnings.catch_warnings(), with_stand_ins(base.model):
        # peft 0.21 reads a property that transformers 5.23 has renamed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        try:
            wrapped: Any = get_peft_model(base.model, config)
        except ValueError as error:
            raise HarnessError(
                f"The model {base.name} has no modules named {', '.join(section.targets)}: set experts.target_modules."
            ) from error
    wrapped.peft_config["default"].base_model_name_or_path = base.name
    return wrapped


@contextmanager
def _own_lora(base: BaseModel, section: ExpertsSection, seed: int) -> Iterator[tuple[Composed, Callable[[Path], None]]]:
    """`trainable_lora` without PEFT, which refuses `out_proj` of state-space models, and whose layer at `dt_proj` their
    mixers would bypass."""
    from methods.adapters import AdapterError
    from methods.experts import new_expert, save_expert
    from methods.routing.build import install_hard

    targets = section.targets
    try:
        fresh = new_expert("expert", base.model, targets, r=section.rank, lora_alpha=section.alpha, seed=seed)
    except AdapterError as error:
        raise HarnessError(f"{str(error).removesuffix('.')}, in experts.target_modules.") from error
    composed = install_hard(base.model, [fresh], dropout=section.lora_dropout)

    def save(folder: Path) -> None:
        save_expert(
            composed.expert("expert"),
            folder,
            base_model=base.name,
            target_modules=targets,
            lora_dropout=section.lora_dropout,
        )

    try:
        yield composed, save
    finally:
        composed.uninstall()
        base.model.requires_grad_(False)
        base.model.eval()


def pad_token(tokenizer: Any) -> int:
    """Id used for padding; masked everywhere, so any valid id serves a tokenizer without one."""
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if candidate is not None:
            return int(candidate)
    return 0
