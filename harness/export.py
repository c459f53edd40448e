"""A composed model of a finished run as a folder to load anywhere, or as an ordinary adapter."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from harness import models
from harness.bases.quantised import written
from harness.engine import Engine
from harness.planning.plan import Cell
from harness.progress import Progress
from results.ground.errors import HarnessError
from results.ground.names import respelled, unknown
from results.stages import EXPERT

Form = Literal["composed", "peft"]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        method: display name.
        seed: of the fit.
        folder: the new folder.
        form: `composed` or `peft`.
        tasks: registered names of the tasks that it has a fit for; empty with one fit for all.
        base: an expression that loads the base model.
        cells: keys of those that the fit was evaluated in: of its configuration alone, where the run has several.
    """

    method: str
    seed: int
    folder: Path
    form: Form
    tasks: tuple[str, ...]
    base: str
    cells: frozenset[str]

    def how_to_load(self) -> str:
        """What was written, and the lines that load it."""
        size = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file()) / 1e6
        said = f"{self.method} (seed {self.seed}) is in {self.folder}, {size:.1f} MB."
        folder = repr(str(self.folder))
        also = ", BitsAndBytesConfig" if "BitsAndBytesConfig" in self.base else ""
        if self.form == "peft":
            lines = [
                f"from peft import PeftModel; from transformers import {self.base.partition('.')[0]}{also}",
                f"model = PeftModel.from_pretrained({self.base}, {folder})",
            ]
        else:
            task = f", task={self.tasks[0]!r}" if len(self.tasks) > 1 else ""
            lines = [
                "import harness; from transformers import AutoTokenizer",
                f"model = harness.load({folder}{task}); tokenizer = AutoTokenizer.from_pretrained({folder})",
                'model.generate(**tokenizer("Once", return_tensors="pt"), max_new_tokens=20)',
            ]
        return "\n".join([said, "", *(f"    {line}" for line in lines)])


def export(
    engines: Sequence[tuple[str, Engine]],
    method: str,
    output: Path,
    *,
    task: str | None = None,
    seed: int | None = None,
    variant: str | None = None,
    form: Form = "composed",
    refer: bool = False,
    train: bool = False,
) -> Exported:
    """Write what a run composed, from its stored stages.

    Args:
        engines: of the run's variants, by label.
        method: display name in the run.
        output: the new folder.
        task: for methods that are fitted for each task; default all tasks (`composed`).
        seed: default the first.
        variant: label, for a run that composed the method in several ways.
        form: `composed` or `peft`.
        refer: keep hashes of the experts instead of copies.
        train: make again what is no longer stored, from the run's configuration; without it nothing is trained.

    Raises:
        HarnessError: something is not in the run or no longer stored, or the method is no single adapter.
    """
    if form not in get_args(Form):
        raise unknown("form", form, get_args(Form))
    method = respelled(method, [one.display for _, engine in engines for one in engine.plan.methods])
    engine = _engine(engines, method, variant)
    cells = _cells(engine, method, task, engine.plan.config.seeds[0] if seed is None else seed)
    _complete(engine, cells, train)
    if form == "peft":
        _write_adapter(engine, cells, output)
    else:
        _write_composed(engine, cells, output, refer)
    config = engine.plan.config.model
    kind = "AutoModelForSeq2SeqLM" if engine.plan.model_config.is_encoder_decoder else "AutoModelForCausalLM"
    base = f"{kind}.from_pretrained({models.resolve(config.name)[0]!r}{written(config)})"
    per_task = cells[0].method.method.per_task()
    tasks = tuple(cell.task.bound.name for cell in cells) if per_task else ()
    seed = cells[0].seed
    own = frozenset(one.key for one in engine.plan.cells if (one.spec.method, one.seed) == (method, seed))
    return Exported(method, seed, output, form, tasks, base, own)


def _engine(engines: Sequence[tuple[str, Engine]], method: str, variant: str | None) -> Engine:
    """The engine of the variant that is meant."""
    labels = [label for label, _ in engines]
    if variant is not None and variant not in labels:
        raise unknown("variant of this run", variant, labels)
    having = [
        (label, engine)
        for label, engine in engines
        if variant in (None, label) and any(one.display == method for one in engine.plan.methods)
    ]
    if not having:
        known = dict.fromkeys(one.display for _, engine in engines for one in engine.plan.methods)
        raise unknown("method of this run", method, known)
    composed = {
        frozenset(cell.compose_key for cell in engine.plan.cells if cell.spec.method == method): label
        for label, engine in having
    }
    if len(composed) > 1 and variant is None and len({label for label, _ in having}) > 1:
        raise HarnessError(
            f"This run composed {method} in several ways: choose one with --variant ({', '.join(composed.values())})."
        )
    return having[0][1]


def _cells(engine: Engine, method: str, task: str | None, seed: int) -> list[Cell]:
    """One cell for each fit that is asked for."""
    plan = engine.plan
    choice = next(one for one in plan.methods if one.display == method)
    if choice.control is not None:
        raise HarnessError(f"{method} is a control, which nobody deploys: export a method of the run.")
    if seed not in plan.config.seeds:
        raise HarnessError(f"This run has no seed {seed}: choose from {', '.join(map(str, plan.config.seeds))}.")
    per_task = choice.method.per_task()
    if task is not None and task not in plan.config.tasks:
        raise unknown("task of this run", task, plan.config.tasks)
    if task is not None and not per_task:
        raise HarnessError(f"{method} has one fit for all tasks: leave --task out.")
    found = [cell for cell in plan.cells if cell.spec.method == method and cell.seed == seed]
    found = [cell for cell in found if task in (None, cell.spec.task)]
    usable = [cell for cell in found if cell.refusal is None]
    if not usable:
        raise HarnessError(f"There is nothing of {method} to export: {found[0].refusal}.")
    return usable if per_task else usable[:1]


def _complete(engine: Engine, cells: Sequence[Cell], train: bool) -> None:
    """See that every stage behind some cells is stored and whole; train what is not, if that is allowed.

    Raises:
        HarnessError: something is not stored, or cannot be trained.
    """
    progress = Progress(1.0, io.StringIO())
    how = "add --train to train it again from the run's configuration"
    for cell in cells:
        for expert in (one for one in cell.pool if not one.path):
            if engine.stages.load(EXPERT, expert.key) is None:
                if not train:
                    raise HarnessError(f"The expert {expert.name} of this run is not stored any more: {how}.")
                engine.settle_expert(expert, progress)
                if engine.stages.load(EXPERT, expert.key) is None:
                    raise HarnessError(f"The expert {expert.name} cannot be trained: {engine.failed[expert.key]}")
        if engine.work.lacks_fit(cell) and not train:
            raise HarnessError(f"The fit of {cell.spec.method} is not stored any more: {how}.")


def _write_composed(engine: Engine, cells: Sequence[Cell], output: Path, refer: bool) -> None:
    from harness.planning.backlog import folder_of
    from methods import saving

    config = engine.plan.config
    location, _ = models.resolve(config.model.name)
    for cell in cells:
        method = cell.method.method
        sources = {
            plan.name: saving.Source(folder_of(plan, engine.stages), plan.path or f"expert stage {plan.key}")
            for plan in cell.pool
        }
        pool = [engine.expert(plan) for plan in cell.pool]
        with engine.composed(cell, _silent()) as composed:
            saving.save(
                output,
                composed,
                method,
                pool,
                seed=cell.seed,
                base=config.model.name,
                location=location,
                revision=engine.plan.model_revision,
                task=cell.task.bound.name if method.per_task() else None,
                own=cell.task.own,
                sources=sources,
                refer=refer,
            )
    engine.base.tokenizer.save_pretrained(output)


def _write_adapter(engine: Engine, cells: Sequence[Cell], output: Path) -> None:
    from methods.base import Unsupported
    from methods.experts import save_expert

    (cell, *others) = cells
    if others:
        tasks = ", ".join(one.spec.task for one in cells)
        raise HarnessError(f"{cell.spec.method} has a fit for each task: choose one with --task ({tasks}).")
    if output.is_dir() and any(output.iterdir()):
        raise HarnessError(f"The folder {output} is not empty: choose another --output.")
    kind = "SEQ_2_SEQ_LM" if engine.plan.model_config.is_encoder_decoder else "CAUSAL_LM"
    base, _ = models.resolve(engine.plan.config.model.name)
    with engine.composed(cell, _silent()) as composed:
        try:
            merged = composed.merged(cell.spec.method)
        except Unsupported as error:
            raise HarnessError(f"{cell.spec.method} is no ordinary adapter: {error}; leave --as out.") from error
        save_expert(merged, output, base_model=base, task_type=kind)


def _silent() -> Progress:
    return Progress(1.0, io.StringIO())
