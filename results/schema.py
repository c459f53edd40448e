"""The schema of records: what one cell of a comparison was, what it gave and what it cost.

A run is a folder `{run.yaml, cells/<hash>/{record.json, items.jsonl.gz, DONE}, reports/}`. `record.json` is
one `Record`; each line of `items.jsonl.gz` is one `Item`. Every field has one sentence; `SCHEMA_VERSION` rises
when a field changes its meaning.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION = 1
RUN_VERSION = 3
"""Of `run.yaml`; versions 1 and 2 are read too. Version 3 ends with a line that seals it."""

Track = Literal["compose", "joint", "reference"]


class _Model(BaseModel):
    # Log-likelihoods can be -inf: they are written as such and not as null.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, ser_json_inf_nan="constants")


class DataProvenance(_Model):
    """Where a task's rows came from."""

    source: str = Field(description="`bundled`, `hub`, or `dir`.")
    origin: str = Field(description="Package and version, hub id and revision, or the directory's set and config.")
    fingerprint: str = Field(description="Hash over the ids and contents of all rows of all parts.")
    part_sizes: dict[str, int] = Field(description="Rows in expert-train, router-train, dev and eval.")
    split_rows: dict[str, int] = Field(default={}, description="Rows found in each official split that was read.")
    official_rows: dict[str, int] = Field(default={}, description="Published rows of every official split.")
    deviations: list[str] = Field(default=[], description="Where rows or splits differ from the official ones.")


class ModelProvenance(_Model):
    """The base model."""

    name: str = Field(description="Name as given on the command line.")
    revision: str = Field(description="Hub commit, or hash of the weights' files.")
    label: str = Field(description="Name for table notes, e.g. `SmolLM2-135M-Instruct, dequantised from Q4_1`.")
    parameters: int = Field(description="Number of parameters of the base model.")
    dtype: str = Field(description="Floating-point type of the weights in this run, and any rounding of products.")
    chat_template: bool = Field(description="Whether prompts went through the chat template.")


class Budget(_Model):
    """What every method of a comparison may spend."""

    preset: str = Field(description="Name of the preset.")
    expert_tokens: int = Field(description="Training tokens (prompt and target, no padding) of one expert.")
    router_tokens: int = Field(description="Training tokens of the routers, over all tasks of the pool.")
    router_examples: int | None = Field(
        default=None, description="Training examples of the routers, where they and not tokens are the limit."
    )
    eval_items: int | None = Field(description="Items evaluated per task at most; null for all.")
    max_new_tokens: int = Field(description="Longest generation, in tokens.")
    tuning_trials: int = Field(default=0, description="Trials on the dev part: of learning rates, or one without any.")


class Environment(_Model):
    """Where and with what the cell was computed."""

    packages: dict[str, str] = Field(description="Versions of the packages that decide results.")
    python: str = Field(description="Python version.")
    hardware: str = Field(description="Processor or accelerator, cores or devices, memory.")
    git_commit: str | None = Field(default=None, description="Commit of the harness, when run from a checkout.")
    git_dirty: bool | None = Field(default=None, description="Whether that checkout had uncommitted changes.")


class Metric(_Model):
    """One aggregate of a cell. Values are fractions (0 to 1) unless `unit` says otherwise."""

    value: float = Field(description="The aggregate over scored items.")
    n: int = Field(description="Items behind it.")
    higher_is_better: bool = Field(default=True, description="Direction.")
    unit: str = Field(default="fraction", description="`fraction`, `score` (0-100), `bits/byte`, `mcc`.")


class Parameters(_Model):
    """Counts of a composed model, beside the base."""

    trainable: dict[str, int] = Field(
        description="Parameters trained in the cell's own fit, by group (experts, routers, loss, ...)."
    )
    stored: dict[str, int] = Field(
        description="Stored but frozen parameters by group; experts trained in stage 1 stand here. No base."
    )


class Cost(_Model):
    """Wall time and memory. Never part of a hash, never compared across machines."""

    seconds: dict[str, float] = Field(description="Wall seconds by phase: experts, fit, evaluate, score.")
    tokens: dict[str, int] = Field(default={}, description="Tokens processed by phase, no padding.")
    passes: int = Field(default=1, description="Passes of the base model behind every pass of the composed one.")
    peak_memory_bytes: int | None = Field(
        default=None, description="Peak resident (CPU) or allocated (GPU) memory of the process so far."
    )
    peak_memory: dict[str, int] = Field(
        default={}, description="The same by phase (fit, evaluate), where the system can tell phases apart."
    )


class RoutingDiagnostics(_Model):
    """What the routers did on the evaluated tokens; padding excluded. Lists over experts follow `experts`."""

    experts: list[str] = Field(description="Names of the pool, in order.")
    modules: list[str] = Field(description="Paths of the routed sites, in order.")
    load: list[float] = Field(
        description="Mean applied weight per expert over tokens and modules; sums to the kept mass."
    )
    entropy: float = Field(description="Mean of H(p)/ln N over tokens and modules; 1 is a uniform router.")
    variance: float = Field(description="E||p - mean p||^2 over tokens, mean over modules (Eq. 10).")
    own_expert_mass: float | None = Field(
        description="Mean p of the task's own expert, or its part of a token's weights where these are no softmax's; "
        "null when it has none, and where no token kept any expert."
    )
    kept_mass: float = Field(description="Mean probability mass that the sparsifier keeps.")
    logit_shift: float = Field(
        description="Mean |logit - logit of the untrained router| over tokens, experts, modules."
    )
    logit_std_initial: float = Field(description="Standard deviation of the untrained router's logits over tokens.")
    per_module: dict[str, list[Any]] = Field(
        default={},
        description="The same, per module: `load` is a list of lists, the others lists of numbers.",
    )


class CellSpec(_Model):
    """What determines a cell: the frozen value whose hash names its folder."""

    model: str
    model_revision: str
    dtype: str
    chat_template: bool
    method: str = Field(description="Display name with deviations, e.g. `mixer[loss.entropy.sign=-1]`.")
    method_name: str
    method_version: int
    method_config: dict[str, Any]
    pool: dict[str, str] = Field(description="Expert name to content hash, in pool order; only experts it depends on.")
    task: str = Field(description="Display name with deviations, e.g. `gsm8k@5-shot`.")
    task_name: str
    task_version: str
    task_config: dict[str, Any] = Field(description="Shots, few-shot mode, prompt style, item limit, generation.")
    data_fingerprint: str
    routing_fingerprint: str | None = Field(description="Fingerprint of the routing data; null when none is used.")
    training: dict[str, Any] = Field(description="Resolved training settings it depends on.")
    seed: int


class Record(_Model):
    """One finished or failed cell."""

    schema_version: int = SCHEMA_VERSION
    cell: str = Field(description="Hash of `spec`; the folder's name.")
    spec: CellSpec
    status: Literal["done", "failed", "refused"]
    error: str | None = Field(default=None, description="One sentence when the cell failed.")
    label: str = Field(default="", description="What readers call the method, where that is not `spec.method_name`.")
    about: str = Field(default="", description="A sentence that belongs under every table with a row of the method.")
    track: Track
    uses_task_identity: bool = Field(description="Whether the method is told the task at test time (dagger in tables).")
    arguments: list[str] = Field(default=[], description="Arguments as passed.")
    data: DataProvenance
    model: ModelProvenance
    budget: Budget
    environment: Environment
    primary: str = Field(description="Name of the task's primary metric.")
    metrics: dict[str, Metric] = Field(default={}, description="Aggregates by name.")
    chance: float = Field(description="Expected primary value of a uniform guess; 0 for open generation.")
    majority: float | None = Field(
        description="Primary value of always answering the most frequent gold; null if open."
    )
    n_items: int = Field(description="Items evaluated.")
    n_unscored: int = Field(default=0, description="Items without a verdict (judge failed, unscorable); never zeros.")
    parameters: Parameters
    cost: Cost
    routing: RoutingDiagnostics | None = None
    training_log: list[dict[str, Any]] = Field(default=[], description="Per optimiser step: step, loss terms, lr.")
    extra: dict[str, Any] = Field(default={}, description="Facts of one family: isolation level, judge model, ...")
    notes: list[str] = Field(default=[], description="Sentences that belong under a table.")


class Item(_Model):
    """One evaluated item of a cell."""

    id: str = Field(description="The item's id in its source.")
    prompt: str = Field(description="Context after few-shot examples and template; shared few-shot prefix elided.")
    choices: list[str] | None = Field(default=None, description="Choices, for likelihood tasks.")
    outputs: list[Any] = Field(description="Raw model outputs: [loglikelihood, is_greedy] per choice, or texts.")
    gold: str = Field(description="Gold answer as text.")
    prediction: str = Field(description="Parsed prediction as text.")
    metrics: dict[str, float | None] = Field(description="Per-item metric values; null when unscored.")
    group: str | None = Field(
        default=None, description="Items with the same one share a passage, a sentence or a question; null if alone."
    )
    extra: dict[str, Any] = Field(default={}, description="Verdict details, e.g. sandbox outcome or judge's reason.")


class PlannedCell(_Model):
    """One cell that a run was asked for."""

    cell: str = Field(description="Hash of the cell's specification; its folder's name.")
    method: str = Field(description="Display name of the method, with deviations.")
    task: str = Field(description="Display name of the task, with deviations.")
    seed: int = Field(description="Seed of the cell.")
    model: str = Field(default="", description="The base model as named; empty in plans written before it was kept.")
    variant: str = Field(default="", description="Part of a table or ablation that asked for it, e.g. `rank=16`.")
    stages: list[str] = Field(default=[], description="Stages behind it as `kind/key`: experts, fit, outputs.")

    @property
    def place(self) -> tuple[str, str, str, str, int]:
        """Where the cell stands in a table: two cells of one place would be shown as one."""
        return self.variant, self.model, self.method, self.task, self.seed


class PlannedVariant(_Model):
    """One configuration of a run, whole, and the label of its cells."""

    label: str = Field(default="", description="Part of a table or ablation, e.g. `rank=16`; empty for a plain run.")
    config: dict[str, Any] = Field(description="The resolved configuration.")


class Command(_Model):
    """One command that had its share in a run."""

    time: str = Field(description="Local time with offset, ISO 8601.")
    arguments: list[str] = Field(default=[], description="Its arguments as passed.")


class RunInfo(_Model):
    """What `run.yaml` holds: everything that was ever asked of the run, as passed and as understood."""

    schema_version: int = RUN_VERSION
    name: str = Field(description="Name of the run.")
    commands: list[Command] = Field(default=[], description="Commands that planned or changed cells, oldest first.")
    variants: list[PlannedVariant] = Field(default=[], description="Every configuration, in the order of planning.")
    cells: list[PlannedCell] = Field(default=[], description="Planned cells, in table order: methods, tasks, seeds.")

    @property
    def started(self) -> str:
        """Time of the latest command; empty for a run that none made."""
        return self.commands[-1].time if self.commands else ""

    @property
    def arguments(self) -> list[str]:
        """Arguments of the latest command."""
        return self.commands[-1].arguments if self.commands else []

    @model_validator(mode="before")
    @classmethod
    def _of_version_1(cls, data: Any) -> Any:
        """Version 1 kept one command and one configuration, the first of a run that varies something."""
        if not isinstance(data, dict) or data.get("schema_version", RUN_VERSION) != 1:
            # What a version 2 says is what a version 3 says.
            return data | {"schema_version": RUN_VERSION} if isinstance(data, dict) else data
        old = dict(data)
        kept = old.get("config") or {}
        parts = [kept, kept.get("model") or {}] if isinstance(kept, dict) else [kept]
        cells = old.get("cells", [])
        if not isinstance(cells, list) or not all(isinstance(part, dict) for part in [*cells, *parts]):
            raise ValueError("cells and configurations are mappings")
        labels = [cell.get("variant", "") for cell in old.get("cells", [])]
        time, arguments, config = (old.pop(key, None) for key in ("started", "arguments", "config"))
        old["commands"] = [{"time": time or "", "arguments": arguments or []}]
        old["variants"] = [{"label": labels[0] if labels else "", "config": config}] if config else []
        model = ((config or {}).get("model") or {}).get("name", "")
        old["cells"] = [{"model": model, **cell} for cell in old.get("cells", [])]
        return old | {"schema_version": RUN_VERSION}
