"""Stage 1, one LoRA per expert on the mixed lengths of real tasks, against the transformers Trainer with PEFT."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.bench.measure import Options, Row, WorkCounter, timed
from harness.models import BaseModel, load
from harness.planning.sections import ExpertsSection
from harness.planning.sources import open_source
from harness.training.data import Encoded, draw, encode
from harness.training.experts import pad_token, train_expert, trainable_lora
from methods.routing.frozen import input_device
from results.ground.errors import HarnessError
from tasks import registry
from tasks.base import TaskSettings

TASKS = {
    "sst2": ("sst2",),
    "mrpc": ("mrpc",),
    "arc": ("arc-e", "arc-c"),
    "gsm8k": ("gsm8k",),
    "boolq": ("boolq",),
    "medqa": ("medqa", "medqa-5opt"),
}
"""Tasks that an expert learns from, as far as the data source has them."""
ROWS = 64
BATCH = 8


def training(options: Options) -> Iterator[Row]:
    """Six experts, one after the other, each side's turn at one expert following the other's."""
    base = load(options.model)
    section = ExpertsSection(
        names=tuple(TASKS),
        rank=16,
        target_modules=("q_proj", "k_proj", "v_proj", "o_proj"),
        lr=5e-4,
        batch_size=BATCH,
        micro_batch_size=BATCH,
    )
    data = {name: expert_rows(base, options, names) for name, names in TASKS.items()}
    everything = [row for rows in data.values() for row in rows]
    micro = {name: fastest(base, section, name, rows, options) for name, rows in data.items()}
    counter, work = WorkCounter(base.model), {"ours": 0, "theirs": 0}
    seconds, peer_seconds = [], []
    try:
        for turn in range(options.repetitions):
            spent = {"ours": 0.0, "theirs": 0.0}
            for index, (name, rows) in enumerate(data.items()):
                order = ("ours", "theirs") if (turn + index) % 2 == 0 else ("theirs", "ours")
                for side in order:
                    counter.take()
                    size = None if side == "ours" else micro[name]
                    spent[side] += seconds_of(base, section, name, rows, size, options)
                    work[side] += counter.take()
            seconds.append(spent["ours"])
            peer_seconds.append(spent["theirs"])
    finally:
        counter.remove()
    targets = sum(row.n_target for row in everything)
    lengths = ", ".join(f"{name} {sum(map(len, rows)) / len(rows):.0f}" for name, rows in data.items())
    yield Row(
        name="stage 1, six experts",
        setting=f"{len(everything)} rows, {targets} target tokens, mean tokens {lengths}; {BATCH} rows a step, "
        f"rank 16; the peer's batch sizes {', '.join(map(str, micro.values()))}",
        peer="transformers Trainer with PEFT",
        seconds=seconds,
        peer_seconds=peer_seconds,
        limit=work["theirs"] / work["ours"],
        target=1.5,
    )


def expert_rows(base: BaseModel, options: Options, names: Sequence[str]) -> list[Encoded]:
    """Rows of one expert, drawn from its tasks' training parts.

    Raises:
        HarnessError: the source has none of the tasks.
    """
    source = open_source(options.data)
    bound = [registry.create(name).bind(source, TaskSettings(shots=0)) for name in names if source_has(source, name)]
    if not bound:
        raise HarnessError(
            f"The source '{options.data}' has none of the tasks {', '.join(names)}: choose another --data."
        )
    pools = {task.name: encode(base.tokenizer, task, "expert-train", 0, 1024) for task in bound}
    return draw(pools, tokens=None, examples=options.items or ROWS, mixture="proportional", seed=0)


def source_has(source: Any, name: str) -> bool:
    """Whether a task can be bound to a source."""
    from tasks.base import TaskUnavailable

    try:
        registry.create(name).bind(source, TaskSettings(shots=0))
    except TaskUnavailable:
        return False
    return True


def fastest(base: BaseModel, section: ExpertsSection, name: str, rows: Sequence[Encoded], options: Options) -> int:
    """The peer's fastest batch size on one step of this expert's rows."""
    sizes = [size for size in options.peer_batches if BATCH % size == 0]
    if not sizes:
        raise HarnessError(f"--peer-batches: none of them divides the step of {BATCH} rows.")
    if len(sizes) == 1:
        return sizes[0]
    found = {size: seconds_of(base, section, name, rows[:BATCH], size, options) for size in sizes}
    return min(found, key=lambda size: found[size])


def seconds_of(
    base: BaseModel,
    section: ExpertsSection,
    name: str,
    rows: Sequence[Encoded],
    peer_size: int | None,
    options: Options,
) -> float:
    """Seconds to train and save one expert: ours, or the peer's with that batch size."""
    with tempfile.TemporaryDirectory(prefix="harness-bench-") as scratch:
        folder = Path(scratch)
        if peer_size is None:
            ours = timed(lambda: train_expert(base, rows, section, name=name, seed=0, folder=folder), options.clock)
            return ours[0]
        return timed(lambda: peer(base, rows, section, peer_size, folder), options.clock)[0]


def peer(base: BaseModel, rows: Sequence[Encoded], section: ExpertsSection, size: int, folder: Path) -> None:
    """The same rows, rank, rate and rows a step as a user of Trainer and PEFT has them, with dynamic padding."""
    from transformers import DataCollatorForSeq2Seq, PrinterCallback, Trainer, TrainingArguments

    examples: Any = [
        {"input_ids": list(row.ids), "labels": [-100] * (len(row) - row.n_target) + list(row.ids[-row.n_target :])}
        for row in rows
    ]
    # The tokenizer needs a padding token; what it is makes no difference behind the mask.
    if base.tokenizer.pad_token_id is None:
        base.tokenizer.pad_token_id = pad_token(base.tokenizer)
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=section.batch_size // size,
        num_train_epochs=section.epochs,
        learning_rate=section.lr,
        lr_scheduler_type=section.scheduler,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=input_device(base.model).type == "cpu",
        seed=0,
    )
    with trainable_lora(base, section, 0) as (composed, save):
        for parameter in composed.groups()["experts"].values():
            parameter.requires_grad_(True)
        trainer = Trainer(
            model=base.model,
            args=arguments,
            train_dataset=examples,
            data_collator=DataCollatorForSeq2Seq(base.tokenizer, padding=True),
        )
        trainer.pop_callback(PrinterCallback)
        trainer.train()
        save(folder)
