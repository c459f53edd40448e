"""A run's results in the files of lm-evaluation-harness 0.4.13, for the tools that read those.

One folder per row of the run's table (and model and seed where there are several) with `results_<date>.json` and a
`samples_<task>_<date>.jsonl` for each task, named and laid out as `lm_eval --output_path DIR --log_samples` does, so
that its `make_table` and its W&B and Trackio loggers read them. Where the two differ:

- `metric,none` is the only filter, since several filters are several metrics here;
- standard errors are those of a mean over items (lm-eval's `mean_stderr`); metrics that are no means have `N/A`;
- items without a verdict keep their place with `null` and do not count;
- `bits_per_byte`, a mean over items here, is called `gold_bits_per_byte`: lm-eval's weighs items by their bytes;
- `doc` holds what an item keeps of its row (id, choices, gold), and prompts lack the few-shot prefix that items share.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from reports.errors import ReportError
from reports.scores import by_row
from results.schema import Item, Metric, Record, RunInfo

NAME = "lm-eval"
OWN_NAMES = {"bits_per_byte": "gold_bits_per_byte"}


def write(
    folder: Path,
    info: RunInfo,
    records: Sequence[Record],
    items: Mapping[str, Sequence[Item]],
    rename: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write all finished cells below `folder/lm-eval`; files of the same start of the run are replaced.

    Args:
        rename: names of models in place of methods.

    Returns:
        The files written, results first within each folder.

    Raises:
        ReportError: the run has no start to date the files with, or two rows would share a folder or two tasks a file.
    """
    try:
        started = datetime.fromisoformat(info.started)
    except ValueError:
        raise ReportError(f"The run '{info.name}' has no time of its start; continue it with `harness run`.") from None
    date = started.replace(tzinfo=None).isoformat().replace(":", "-")
    paths: list[Path] = []
    folders: dict[str, str] = {}
    for name, own in _models(records, rename or {}):
        safe = sanitized(name)
        if folders.setdefault(safe, name) != name or safe in {path.parent.name for path in paths}:
            raise ReportError(f"Two rows would share the folder {safe}: give one another name with --rename.")
        model = folder / NAME / safe
        model.mkdir(parents=True, exist_ok=True)
        samples = {sanitized(r.spec.task): list(_samples(r, items[r.cell])) for r in own}
        if len(samples) < len(own):
            raise ReportError(f"Two tasks of {name} have one name in lm-eval's files: write them from separate runs.")
        result = _results(name, own, items, samples, started.timestamp())
        path = model / f"results_{date}.json"
        path.write_text(json.dumps(result, indent=2, ensure_ascii=False), encoding="utf-8")
        paths.append(path)
        for task, lines in samples.items():
            path = model / f"samples_{task}_{date}.jsonl"
            path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
            paths.append(path)
    return paths


def sanitized(name: str) -> str:
    """lm-eval's rule for names in paths (`sanitize_model_name`)."""
    return re.sub(r"[\"<>:/|\\?*\[\]]+", "__", name)


def _models(records: Sequence[Record], rename: Mapping[str, str]) -> Iterator[tuple[str, list[Record]]]:
    """Name and finished records of what lm-eval calls a model: a row of a table on a base model with one seed."""
    rows = {row: [r for r in group if r.status == "done"] for row, group in by_row(records).items()}
    several = len({model for (model, _), own in rows.items() if own}) > 1
    for (model, method), own in rows.items():
        seeds = sorted({r.spec.seed for r in own})
        for seed in seeds:
            name = rename.get(method, method) + (f"@{model}" if several else "")
            yield name + (f"@seed-{seed}" if len(seeds) > 1 else ""), [r for r in own if r.spec.seed == seed]


def _results(
    name: str,
    records: Sequence[Record],
    items: Mapping[str, Sequence[Item]],
    samples: Mapping[str, Sequence[Mapping[str, Any]]],
    date: float,
) -> dict[str, Any]:
    """What `lm_eval.result_schema.EvalResults` describes, without what a run does not store (tokenizer, template)."""
    first = records[0]
    packages = first.environment.packages
    tasks = {sanitized(record.spec.task): record for record in records}
    return {
        "results": {task: _aggregates(task, record, items[record.cell]) for task, record in tasks.items()},
        "group_subtasks": {},
        "configs": {task: _config(task, record, items[record.cell]) for task, record in tasks.items()},
        "versions": {task: record.spec.task_version for task, record in tasks.items()},
        "n-shot": {task: _shots(record) for task, record in tasks.items()},
        "higher_is_better": {
            task: {_own(metric): found.higher_is_better for metric, found in record.metrics.items()}
            for task, record in tasks.items()
        },
        "n-samples": {
            task: {"original": record.data.part_sizes.get("eval", record.n_items), "effective": record.n_items}
            for task, record in tasks.items()
        },
        "config": {
            "model": "harness",
            "model_args": {"pretrained": first.model.name, "method": first.spec.method},
            "model_num_parameters": first.model.parameters,
            "model_dtype": first.model.dtype,
            "model_revision": first.model.revision,
            "limit": first.budget.eval_items,
            "bootstrap_iters": 0,
            "gen_kwargs": {"max_gen_toks": first.budget.max_new_tokens},
            **dict.fromkeys(("random_seed", "numpy_seed", "torch_seed", "fewshot_seed"), first.spec.seed),
        },
        "git_hash": first.environment.git_commit,
        "date": date,
        "pretty_env_info": f"{first.environment.hardware}; Python {first.environment.python}",
        "transformers_version": packages.get("transformers", "N/A"),
        "lm_eval_version": packages.get("lm-eval", "N/A"),
        "task_hashes": {
            task: _hash("".join(line["doc_hash"] + line["prompt_hash"] + line["target_hash"] for line in lines))
            for task, lines in samples.items()
        },
        "model_source": "harness",
        "model_name": name,
        "model_name_sanitized": sanitized(name),
        "fewshot_as_multiturn": first.model.chat_template,
        "total_evaluation_time_seconds": str(sum(record.cost.seconds.get("evaluate", 0.0) for record in records)),
    }


def _aggregates(task: str, record: Record, items: Sequence[Item]) -> dict[str, float | str]:
    found: dict[str, float | str] = {"name": task, "alias": record.spec.task, "sample_len": record.n_items}
    for name, metric in record.metrics.items():
        found[f"{_own(name)},none"] = metric.value
        found[f"{_own(name)}_stderr,none"] = _stderr(metric, _scored(name, items))
    return found


def _stderr(metric: Metric, values: Sequence[float]) -> float | str:
    """Standard error of a mean over items; `N/A` of one item, and of an aggregate that is no mean."""
    mean = sum(values) / len(values) if len(values) > 1 else math.nan
    if not math.isclose(mean, metric.value, abs_tol=1e-9):
        return "N/A"
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))


def _config(task: str, record: Record, items: Sequence[Item]) -> dict[str, Any]:
    return {
        "task": task,
        "dataset_path": record.data.origin,
        "test_split": "eval",
        "output_type": "multiple_choice" if any(item.choices for item in items) else "generate_until",
        "num_fewshot": _shots(record),
        "metric_list": [
            {"metric": _own(name), "higher_is_better": metric.higher_is_better}
            | ({"aggregation": "mean"} if _scored(name, items) else {})
            for name, metric in record.metrics.items()
        ],
        "metadata": {"version": record.spec.task_version, **record.spec.task_config},
    }


def _samples(record: Record, items: Sequence[Item]) -> Iterator[dict[str, Any]]:
    """One line an item, as `EvaluationTracker.save_results_samples` writes it."""
    for index, item in enumerate(items):
        doc = {"id": item.id, "choices": item.choices, "gold": item.gold}
        target = str(item.extra.get("gold_index", item.gold))
        if item.choices:
            requests: list[dict[str, Any]] = [{"arg_0": item.prompt, "arg_1": choice} for choice in item.choices]
            answers: list[Any] = [[str(part) for part in output] for output in item.outputs]
            raw = [[answer] for answer in answers]
        else:
            requests = [{"arg_0": item.prompt, "arg_1": {"max_gen_toks": record.budget.max_new_tokens}}]
            answers = [item.prediction]
            raw = [[str(text) for text in item.outputs]]
        yield {
            "doc_id": index,
            "doc": doc,
            "target": target,
            "arguments": {f"gen_args_{place}": request for place, request in enumerate(requests)},
            "resps": raw,
            "filtered_resps": answers,
            "filter": "none",
            "metrics": [_own(name) for name in record.metrics],
            "doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)),
            "prompt_hash": _hash(item.prompt),
            "target_hash": _hash(target),
            **{_own(name): _value(name, item) for name in record.metrics},
        }


def _value(name: str, item: Item) -> float | list[int] | None:
    """An item's value of a metric; of an aggregate over pairs (mcc) the pair of gold and predicted choice."""
    pair = [index for key in ("gold_index", "predicted_index") if (index := item.extra.get(key)) is not None]
    return item.metrics.get(name, pair if len(pair) == 2 else None)


def _scored(name: str, items: Sequence[Item]) -> list[float]:
    return [value for item in items if (value := item.metrics.get(name)) is not None]


def _shots(record: Record) -> int:
    return int(record.spec.task_config.get("shots") or 0)


def _own(metric: str) -> str:
    return OWN_NAMES.get(metric, metric)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
