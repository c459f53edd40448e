"""Cards of what is published: the README.md of a data set and of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from harness import __version__
from harness.sharing.dataset import ITEM_COLUMNS, ITEMS, RECORD_COLUMNS, RECORDS
from harness.sharing.scrub import Scrubber
from results.schema import Record
from results.store import RunFolder

if TYPE_CHECKING:
    from harness.export import Exported

TAGS = ("lora", "peft", "mixture-of-experts", "lora-harness")


def data_card(run: RunFolder, repository: str, counts: Mapping[str, int], scrub: Scrubber) -> str:
    """The card of a run's records and items; its head names the two configurations of the data set.

    The comparison is made of scrubbed records: once rendered, a path is escaped and no longer looks like one.
    """
    head = {
        "pretty_name": f"LoRA experts: {run.info.name}",
        "tags": [*TAGS, "benchmark"],
        "configs": [
            {"config_name": "records", "data_files": RECORDS, "default": True},
            {"config_name": "items", "data_files": ITEMS},
        ],
    }
    records = [Record.model_validate(scrub.value(record.model_dump(mode="json"))) for record in run.records()]
    text = f"""# {run.info.name}

Ways of composing and routing LoRA experts, compared by lora-harness {__version__}. {counts[RECORDS]} cells (a method
on a task with a seed) and {counts[ITEMS]:,} evaluated items, with prompts, raw outputs and scores.

    from datasets import load_dataset

    cells = load_dataset("{repository}", split="train")
    items = load_dataset("{repository}", "items", split="train")

{_comparison(run, records)}

## How it was made

{_commands(run)}

{_made_with(records)}

`run.yaml` holds every setting; the column `record` everything that is known of a cell.

## Sources

Prompts and gold answers are rows of the data sets below, under their licences.

{_sources(records)}

## Columns

`records`, one row a cell:

{_columns(RECORD_COLUMNS)}

`items`, one row an item of a cell:

{_columns(ITEM_COLUMNS)}

Paths of the machine that computed this are shortened to `…/NAME` and secrets are taken out, so the specification in a
`record` need not hash to its `cell` where it held a path.
"""
    return _with_head(head, scrub.text(text))


def _comparison(run: RunFolder, records: Sequence[Record]) -> str:
    from methods import registry
    from reports.comparison import Options, comparison
    from reports.labels import labelled
    from reports.render import markdown

    items = {record.cell: run.items(record.cell) for record in records if record.status == "done"}
    title = f"Methods by tasks, run {run.info.name}"
    table = comparison(records, items, title=title, options=Options(order=registry.names()))
    return markdown.render(labelled(table, records))


def model_card(exported: Exported, run: RunFolder, repository: str, dataset: str, base: str, scrub: Scrubber) -> str:
    """The card of an exported model.

    Args:
        exported: what was written.
        run: that it comes from.
        repository: of the model.
        dataset: repository of the run's records.
        base: hub id or name of its base model.
    """
    from methods import registry

    own = [one for one in run.records() if one.cell in exported.cells]
    name = registry.parse(exported.method)[0]
    card = registry.card(name)
    peft = exported.form == "peft"
    head: dict[str, Any] = {
        **({"base_model": base} if base.count("/") == 1 and not base.startswith(("/", ".", "…")) else {}),
        "library_name": "peft" if peft else "lora-harness",
        "tags": [*TAGS, name],
        "datasets": [dataset],
    }
    label = own[0].model.label if own else base
    text = f"""# {exported.method} on {label}

{card.summary} Composed by lora-harness {__version__} in the run [{run.info.name}](https://huggingface.co/datasets/{dataset}),
seed {exported.seed}. The base model is not in this repository.

{_peft_lines(repository, label) if peft else _composed_lines(repository, label, exported.tasks)}

## Measured

{_measured(own)}

Every item with its output is in the data set; how sure these numbers are, and what they were compared with, is on its
card.

## How it was made

{_commands(run)}

{_made_with(own)}
"""
    return _with_head(head, scrub.text(text))


def _with_head(head: Mapping[str, Any], text: str) -> str:
    return f"---\n{yaml.safe_dump(dict(head), sort_keys=False, allow_unicode=True)}---\n\n{text}"


def _composed_lines(repository: str, label: str, tasks: Sequence[str]) -> str:
    task = f', task="{tasks[0]}"' if len(tasks) > 1 else ""
    return f"""    import harness; from huggingface_hub import snapshot_download; from transformers import AutoTokenizer

    folder = snapshot_download("{repository}")
    model = harness.load(folder{task}, model=BASE)  # folder or hub id of {label}
    tokenizer = AutoTokenizer.from_pretrained(folder)"""


def _peft_lines(repository: str, label: str) -> str:
    return f"""    from peft import PeftModel

    model = PeftModel.from_pretrained(base, "{repository}")  # base: {label}, as transformers loads it"""


def _commands(run: RunFolder) -> str:
    lines = [f"    harness {' '.join(command.arguments)}".rstrip() for command in run.info.commands]
    return "\n".join(lines) if lines else "The run keeps no command."


def _made_with(records: Sequence[Record]) -> str:
    """Versions and hardware, each combination once."""
    found = dict.fromkeys(
        f"Python {e.python}, {', '.join(f'{name} {version}' for name, version in e.packages.items())}; {e.hardware}"
        + (f"; harness at {e.git_commit[:12]}{', with changes' if e.git_dirty else ''}" if e.git_commit else "")
        for e in (record.environment for record in records)
    )
    return "\n".join(f"- {line}." for line in found)


def _sources(records: Sequence[Record]) -> str:
    from tasks import registry

    lines = ["| task | rows | licence |", "| --- | --- | --- |"]
    for record in {record.spec.task: record for record in records}.values():
        known = record.spec.task_name in registry.names()
        licence = registry.card(record.spec.task_name).licence if known else "not known to the harness"
        lines.append(f"| {record.spec.task} | {record.data.source} ({record.data.origin}) | {licence} |")
    return "\n".join(lines)


def _measured(records: Sequence[Record]) -> str:
    lines = ["| task | metric | value | items |", "| --- | --- | ---: | ---: |"]
    for record in records:
        metric = record.metrics.get(record.primary)
        if metric is not None:
            lines.append(f"| {record.spec.task} | {record.primary} | {metric.value:.4f} | {record.n_items} |")
    return "\n".join(lines)


def _columns(columns: Mapping[str, tuple[str, str]]) -> str:
    return "\n".join(
        ["| column | |", "| --- | --- |", *(f"| `{name}` | {text} |" for name, (_, text) in columns.items())]
    )
