"""A pool of experts to hand on: learning rates and budgets are chosen on development rows, weights are bfloat16."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import typer

from results.ground.errors import HarnessError, NotFinite

if TYPE_CHECKING:
    from harness.engine import Engine
    from harness.models import LoadedModels
    from harness.planning.sections import RunConfig
    from harness.training.growing import Trial
    from results.pools import Grown, Pool
    from results.stages import Stages

TRIAL = "trial"
"""Kind of the stages that keep what a trial was judged."""
POOL_CLAIM = "pool"
"""Kind of the claims on folders of pools."""
TRIAL_VERSION = 1


@dataclass
class Grower:
    """Makes the experts of one pool.

    Attributes:
        config: of the pool: base model, data, experts and what is common to their trainings.
        folder: of the pool.
        dev_rows: development rows that trials are judged on.
        gain: share of the loss that a larger budget has to take off.
        pool: what the folder holds.
    """

    config: RunConfig
    folder: Path
    dev_rows: int
    gain: float
    arguments: Sequence[str]
    stages: Stages
    models: LoadedModels
    device: str
    pool: Pool | None = None

    @classmethod
    @contextmanager
    def start(
        cls, config: RunConfig, folder: Path, dev_rows: int, gain: float, arguments: Sequence[str]
    ) -> Iterator[Grower]:
        """The one grower of a folder, which is new, empty, or holds a pool of the same kind.

        Raises:
            HarnessError: the folder holds something else, or another process grows it.
        """
        from harness.planning.stores import stage_store
        from results.ground.digest import digest

        stages, key = stage_store(), digest(str(folder.resolve()))
        with stages.claim(POOL_CLAIM, key) as mine:
            if not mine:
                raise HarnessError(
                    f"Another process grows {folder} ({stages.claimant(POOL_CLAIM, key)}): wait for it, or choose "
                    "another --output."
                )
            yield cls._at(config, folder, dev_rows, gain, arguments, stages)

    @classmethod
    def _at(
        cls, config: RunConfig, folder: Path, dev_rows: int, gain: float, arguments: Sequence[str], stages: Stages
    ) -> Grower:
        from harness import models
        from harness.failures import FAILURES
        from results.ground.files import make_folder
        from results.pools import POOL, read_pool

        models.quiet_libraries()
        models.require(config.model.name, fetch=True)
        pool = read_pool(folder) if (folder / POOL).is_file() else None
        make_folder(folder)
        if pool is None and any(entry.name != FAILURES for entry in folder.iterdir()):
            raise HarnessError(f"{folder} holds something that is no pool: choose another --output.")
        device = models.device_of(config.model)
        grower = cls(
            models.with_targets(config), folder, dev_rows, gain, arguments, stages, models.LoadedModels(), device, pool
        )
        if pool is not None and (differing := grower._differing(pool)):
            raise HarnessError(f"{folder} holds a pool of another {differing}: choose another --output.")
        return grower

    def _differing(self, pool: Pool) -> str:
        """What `pool.json` says once for all experts, and would say falsely of some if these were added."""
        section = self.config.experts
        ours = {
            "model": self.config.model.name,
            "rank": section.rank,
            "alpha": section.alpha,
            "target_modules": list(section.targets),
            "seed": self.config.seeds[0],
            "gain": self.gain,
        }
        theirs = {
            "model": pool.model.name,
            "rank": pool.rank,
            "alpha": pool.alpha,
            "target_modules": pool.targets,
            "seed": pool.seed,
            "gain": pool.gain,
        }
        return ", ".join(key for key in ours if ours[key] != theirs[key])

    def holds(self, name: str) -> bool:
        """Whether the folder has the expert already."""
        return self.pool is not None and any(expert.name == name for expert in self.pool.experts)

    def grow(self, name: str, rates: Sequence[float], budgets: Sequence[int]) -> Grown:
        """Choose an expert's rate and budget, judge it as the pool keeps it, and add it.

        Raises:
            HarnessError: no rate stays finite, or its tasks have no development rows.
        """
        from harness.planning.backlog import folder_of
        from harness.training import growing
        from results.ground.digest import file_sha256
        from results.pools import Grown

        base_loss = self._judged(self._engine(name, rates[0], budgets[0]), "base")
        try:
            best, trials = growing.grow(rates, budgets, self.gain, lambda rate, budget: self._trial(name, rate, budget))
        except NotFinite as error:
            raise HarnessError(f"The expert {name}: {error}") from error
        engine = self._engine(name, best.rate, best.budget)
        (expert,) = engine.plan.pool(self.config.seeds[0], [name])
        with tempfile.TemporaryDirectory(prefix="harness-pool-") as scratch:
            store_rounded(folder_of(expert, engine.stages), Path(scratch))
            dev_loss = self._judged(self._engine(name, best.rate, best.budget, Path(scratch)), "lora")
        # Nothing lies in the folder for longer than it takes to say in `pool.json` what it is.
        store_rounded(folder_of(expert, engine.stages), self.folder / name)
        tasks = engine.plan.expert_tasks(name)
        grown = Grown(
            name=name,
            tasks=[task.name for task in tasks],
            origins=[task.origin for task in tasks],
            fingerprints=[task.fingerprint for task in tasks],
            rate=best.rate,
            tokens=best.tokens,
            dev_rows=self.dev_rows,
            base_loss=base_loss,
            dev_loss=dev_loss,
            trials=[one.dump() for one in trials],  # type: ignore[misc]
            sha256=file_sha256(self.folder / name / "adapter_model.safetensors"),
        )
        self._keep(grown)
        return grown

    def _keep(self, grown: Grown) -> None:
        """Add an expert to `pool.json` and write the page anew."""
        from harness.provenance import environment
        from results.ground.files import write_bytes, write_json
        from results.pools import POOL, Pool

        engine = self._engine(grown.name, grown.rate, grown.tokens)
        section = self.config.experts
        before = [] if self.pool is None else self.pool.experts
        self.pool = Pool(
            model=engine.facts.model,
            rank=section.rank,
            alpha=section.alpha,
            targets=list(section.targets),
            dtype="bfloat16",
            seed=self.config.seeds[0],
            gain=self.gain,
            environment=environment(self.device),
            experts=[*before, grown],
        )
        write_json(self.folder / POOL, self.pool)
        write_bytes(self.folder / "README.md", page(self.pool).encode())

    def _trial(self, name: str, rate: float, budget: int) -> Trial:
        from harness.training.growing import Trial
        from results.stages import EXPERT

        engine = self._engine(name, rate, budget)
        (expert,) = engine.plan.pool(self.config.seeds[0], [name])
        typer.echo(f"{name}: {budget:,} tokens at {rate:g}", err=True)
        engine.settle_expert(expert, _quiet())
        if (lost := engine.failed.get(expert.key)) is not None:
            return Trial(rate, budget, 0, None, lost)
        tokens = int(engine.stages.meta(EXPERT, expert.key)["tokens"])
        return Trial(rate, budget, tokens, self._judged(engine, "lora"))

    def _judged(self, engine: Engine, method: str) -> float:
        """The development loss of the one expert of an engine's pool, or of the base model; a stage, kept.

        Raises:
            HarnessError: its tasks have no development rows.
        """
        from harness.training.session import EngineSession
        from results.ground.digest import digest

        cell = next(cell for cell in engine.plan.cells if cell.spec.method.partition("[")[0] == method)
        tasks = [(task.name, task.fingerprint, task.version) for task in engine.plan.routing_tasks()]
        model = [engine.plan.model_revision, self.config.model.arithmetic, self.config.model.chat_template]
        key = digest([TRIAL_VERSION, [one.key for one in cell.pool], model, tasks, self.dev_rows, cell.seed])
        if self.stages.load(TRIAL, key) is None:
            session = EngineSession(engine.plan, engine.data, engine.base, seed=cell.seed)
            session.dev_tasks()
            with engine.composed(cell, _quiet()) as composed:
                loss = session.dev_loss(composed, self.dev_rows)
            with self.stages.create(TRIAL, key, {"dev_loss": loss}):
                pass
        return float(self.stages.meta(TRIAL, key)["dev_loss"])

    def _engine(self, name: str, rate: float, budget: int, folder: Path | None = None) -> Engine:
        """An engine whose pool is one expert, trained with a rate and a budget or read from a folder."""
        from harness.engine import Engine
        from harness.planning.config import validate
        from harness.planning.plan import Plan
        from harness.planning.sources import open_source
        from results.schema import RunInfo
        from results.store import RunFolder

        values: dict[str, Any] = self.config.model_dump(mode="json")
        paths = {} if folder is None else {name: str(folder)}
        values["experts"] |= {"names": [name], "paths": paths, "lr": rate, "tokens": budget}
        values["routers"] |= {"tokens": None, "examples": self.dev_rows}
        values |= {"methods": ["base", f"lora[expert={name}]"], "tasks": [_task_of(name)], "tune": False}
        plan = Plan(validate(values), open_source(self.config.data))
        notes = RunFolder(self.folder, RunInfo(name=self.folder.name))
        return Engine(plan, self.stages, notes, self.device, self.models, self.arguments)


def store_rounded(expert: Path, folder: Path) -> None:
    """Copy an adapter with its weights in bfloat16.

    Args:
        expert: a PEFT adapter folder.
        folder: made if missing.
    """
    import torch
    from safetensors.torch import load_file, save

    from results.ground.files import write_bytes

    write_bytes(folder / "adapter_config.json", (expert / "adapter_config.json").read_bytes())
    weights = load_file(expert / "adapter_model.safetensors")
    rounded = {name: weight.to(torch.bfloat16).contiguous() for name, weight in weights.items()}
    write_bytes(folder / "adapter_model.safetensors", save(rounded, metadata={"format": "pt"}))


def page(pool: Pool) -> str:
    """The pool in words and a table, as Markdown."""
    how = (
        "`harness pool` chose each one's learning rate at the smallest budget and let the budget grow while the loss "
        f"on development rows fell by more than {100 * pool.gain:g} %."
    )
    if all(len(one.trials) == 1 for one in pool.experts):
        how = "Rates and budgets were given to `harness pool` and not chosen by trials."
    lines = [
        f"# A pool of {len(pool.experts)} experts for {pool.model.label}",
        "",
        f"LoRA of rank {pool.rank} and alpha {pool.alpha:g} on {', '.join(pool.targets)}, stored as PEFT adapters in "
        f"{pool.dtype}. {how} Losses are nats per answer token: a mean over an answer's tokens, then over examples, "
        "then over tasks.",
        "",
        "| expert | tasks | tokens | learning rate | loss of the base | of the expert | trials (tokens: loss) |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in pool.experts:
        curve = ", ".join(
            f"{t.budget:,} at {t.rate:g}: {'–' if t.dev_loss is None else f'{t.dev_loss:.3f}'}" for t in one.trials
        )
        lines.append(
            f"| {one.name} | {', '.join(one.tasks)} | {one.tokens:,} | {one.rate:g} | {one.base_loss:.3f} | "
            f"{one.dev_loss:.3f} | {curve} |"
        )
    shares = [one.dev_loss / one.base_loss for one in pool.experts]
    typical = f"The median expert's loss is {100 * median(shares):.0f} % of the base's."
    lines += ["", f"{typical} Made on {pool.environment.hardware}."]
    return "\n".join(lines) + "\n"


def _task_of(expert: str) -> str:
    from tasks import registry

    return next(name for name in registry.names() if registry.card(name).expert == expert)


def _quiet() -> Any:
    from harness.progress import Progress

    return Progress(1.0, io.StringIO())
