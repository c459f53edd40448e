"""Any task file of lm-evaluation-harness, for evaluation alone: `--include my_task.yaml --tasks my_task`.

Prompts, choices, filters, metrics and their aggregation are lm-eval's; output types are `multiple_choice`,
`loglikelihood` and `generate_until`. Rows come from the file's own `dataset_path` (with `data_files` beside the task
file, nothing else is needed). Everything in the split that lm-eval evaluates is the part `eval`; the other parts are
empty, so no expert and no router is trained on it. Few-shot examples come from the split that the file names for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from results.ground.digest import digest, file_sha256, row_digest
from results.ground.reading import Unreadable, file_text, yaml_value
from tasks.base import PARTS, ChatTemplate, Doc, MetricInfo, Request, ScoredItem, TaskSettings
from tasks.card import TaskCard
from tasks.guarded import guarded
from tasks.lm_eval_task import LmEvalBound, LmEvalTask
from tasks.row_file_task import TaskFileError, TaskRowsError
from tasks.row_task import LoadedRows, fingerprint
from tasks.sources.base import Source, View

OUTPUT_TYPES = ("multiple_choice", "loglikelihood", "generate_until")
_FRACTIONS = {"acc", "acc_norm", "acc_bytes", "exact_match", "f1", "em"}
_REFUSED = {
    "class": "is a class of Python",
    "doc_to_image": "shows images",
    "doc_to_audio": "plays sounds",
    "use_prompt": "takes its prompt from promptsource",
    "unsafe_code": "runs generated code",
    "custom_dataset": "makes its own data set",
}


class IncludedBound(LmEvalBound):
    """Items are scored by lm-eval's `process_results`; metrics that are no mean of items are kept as it gives them."""

    task: IncludedTask

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.version = f"{self.version}/{self.task.identity}"
        self._labels = self._named()
        aggregations, higher = self.lm.aggregation(), self.lm.higher_is_better()
        self._aggregations = {label: aggregations[metric] for label, (metric, _) in self._labels.items()}
        self._means = {label for label, use in self._aggregations.items() if getattr(use, "__name__", "") == "mean"}
        if not self._means:
            raise TaskFileError(
                f"{self.task.path} has no metric that is a mean over items, on which tables and tests rest: add one, "
                f"e.g. {'exact_match' if self.generative else 'acc'}."
            )
        self.metrics = [
            MetricInfo(
                label,
                higher[metric],
                "fraction" if metric in _FRACTIONS else "score",
                "mean" if label in self._means else "lm-eval",
            )
            for label, (metric, _) in self._labels.items()
        ]
        self.primary = next(info.name for info in self.metrics if info.name in self._means)
        if self.lm.multiple_input:
            raise TaskFileError(f"{self.task.path} scores one ending after several beginnings, which is not supported.")

    def requests(self, doc: Doc, seed: int) -> list[Request]:
        """As lm-eval asks; generations end where the task file says, `max_gen_toks` included."""
        with guarded(self.task.path):
            return self._requests(doc, seed)

    def _requests(self, doc: Doc, seed: int) -> list[Request]:
        if not self.generative:
            return super().requests(doc, seed)
        prefix, context = self._prompt(doc, self._view(doc), seed)
        generation = self.lm.config.generation_kwargs
        until = generation["until"]
        return [
            Request(
                "generate",
                prefix,
                context,
                until=(until,) if isinstance(until, str) else tuple(until),
                max_new_tokens=int(generation.get("max_gen_toks", self.settings.max_new_tokens)),
            )
        ]

    def gold_request(self, doc: Doc, seed: int) -> Request | None:
        """None: the metrics are the task file's."""
        return None

    def score(self, doc: Doc, outputs: Sequence[Any]) -> ScoredItem:
        """See `LmEvalBound.score`."""
        view = self._view(doc)
        if self.generative:
            answers = self.lm.filtered(view, outputs)
            results = {name: self.lm.process_results(view, [answer]) for name, answer in answers.items()}
            prediction = str(answers[self._labels[self.primary][1]])
        else:
            results = {"": self.lm.process_results(view, [tuple(output) for output in outputs])}
            scores = [output[0] for output in outputs]
            choices = self._continuations(view)
            prediction = choices[scores.index(max(scores))].strip() if len(choices) > 1 else ""
        found = {
            label: _plain(results[name][metric])
            for label, (metric, name) in self._labels.items()
            if metric in results[name]
        }
        return ScoredItem(
            prediction,
            self.gold_text(doc),
            {label: float(value) for label, value in found.items() if label in self._means},
            {label: value for label, value in found.items() if label not in self._means},
        )

    def gold_text(self, doc: Doc) -> str:
        """The gold answer for people to read; the first where there are several."""
        return self._golds(self._view(doc))[0].strip()

    def _golds(self, view: View) -> list[str]:
        """Right answers without a delimiter."""
        gold = self.lm.doc_to_target(view)
        choices = self.lm.doc_to_choice(view) if self.lm.config.doc_to_choice is not None else []
        golds = gold if isinstance(gold, list) else [gold]
        return [str(choices[one]) if choices and isinstance(one, int) else str(one) for one in golds]

    def _gold_continuation(self, view: View) -> str:
        first = self._golds(view)[0]
        if self.lm.OUTPUT_TYPE == "multiple_choice":
            return self._continuations(view)[self.lm.doc_to_choice(view).index(first)]
        return self._continuations(view)[0] if not self.lm.multiple_target else self._delimited(first)

    def _delimited(self, answer: str) -> str:
        return ("" if self.settings.chat_template else self.lm.config.target_delimiter) + answer

    def aggregate(self, items: Sequence[ScoredItem]) -> dict[str, tuple[float, int]]:
        """lm-eval's aggregation of every metric that any item has."""
        totals = {}
        for label, use in self._aggregations.items():
            kept = [{**item.extra, **item.metrics}.get(label) for item in items]
            values = [value for value in kept if value is not None]
            if values:
                totals[label] = (float(use(values)), len(values))
        return totals

    def chance(self) -> float:
        """Mean share of right choices; 0 where there are none, or where the first metric is no accuracy."""
        if self.lm.OUTPUT_TYPE != "multiple_choice" or self.primary not in ("acc", "acc_norm", "acc_bytes"):
            return 0.0
        views = [self._view(doc) for doc in self._eval_docs]
        return sum(len(self._golds(view)) / len(self.lm.doc_to_choice(view)) for view in views) / len(views)

    def majority(self) -> float | None:
        """See `LmEvalBound.majority`; None without choices, and with several right ones."""
        one_gold = self.lm.OUTPUT_TYPE == "multiple_choice" and not self.lm.multiple_target
        return super().majority() if one_gold else None

    def _named(self) -> dict[str, tuple[str, str]]:
        """Metric and filter by the name that tables show: `METRIC`, or `METRIC_FILTER` where there are several."""
        metrics = list(self.lm.aggregation())
        filters = [ensemble.name for ensemble in self.lm._filters] if self.generative else [""]
        short = [name.partition("-")[0] for name in filters]
        if len(set(short)) < len(short):
            short = filters
        return {
            metric if len(filters) == 1 else f"{metric}_{shown}": (metric, name)
            for metric in metrics
            for name, shown in zip(filters, short, strict=True)
        }


class IncludedTask(LmEvalTask):
    """The task of one task file, over the rows that it names."""

    bound_class = IncludedBound
    only_evaluated = True

    def __init__(self, card: TaskCard, path: Path, config: Mapping[str, Any], identity: str) -> None:
        super().__init__(card)
        self.path = path
        self.identity = identity
        self._config = dict(config)

    def check(self, source: Source) -> None:
        """It needs no source."""

    def bind(self, source: Source, settings: TaskSettings, chat: ChatTemplate | None = None) -> LmEvalBound:
        """See `Task.bind`; the rows are those that the task file names."""
        with guarded(self.path):
            return self.join(self.load(source), "task file", settings, chat)

    def config(self, settings: TaskSettings) -> dict[str, Any]:
        """The task file; rows are preprocessed already."""
        # lm-eval's few-shot section is looked at by `read_included`: examples are drawn here.
        return {key: value for key, value in self._config.items() if key not in ("process_docs", "fewshot_config")}

    def load(self, source: Source) -> LoadedRows:
        """The rows of the evaluated split, and those that few-shot examples are drawn from.

        Raises:
            TaskRowsError: they cannot be loaded, or there are none.
        """
        split, shown = self.card.roles.eval, _fewshot_split(self._config)
        rows = self._rows(split)
        if not rows:
            raise TaskRowsError(f"The split {split} of {self.path} is empty: name another as test_split.")
        parts: dict[Any, list[Doc]] = {part: [] for part in PARTS}
        parts["eval"] = rows
        pool = [] if shown is None else rows if shown == split else self._rows(shown)
        where = [self._config.get(key) for key in ("dataset_path", "dataset_name")]
        return LoadedRows(
            parts=parts,
            origin=f"{self.path}: {' '.join(str(part) for part in where if part)}",
            fingerprint=digest([fingerprint(parts), [doc.id for doc in pool]]),
            deviations=("A task file of lm-eval from outside; evaluated alone, nothing is trained on it.",),
            split_rows={split: len(rows)},
            shown=pool,
        )

    def _rows(self, split: str) -> list[Doc]:
        import datasets

        config = self._config
        arguments = _anchored(dict(config.get("dataset_kwargs") or {}), self.path.parent)
        place = str(config["dataset_path"])
        beside = self.path.parent / place
        try:
            loaded = datasets.load_dataset(
                str(beside) if beside.is_dir() else place, config.get("dataset_name"), split=split, **arguments
            )
            process = config.get("process_docs")
            rows = list(loaded if process is None else process(loaded))
        except Exception as error:  # `datasets` raises errors of half a dozen libraries here.
            reason = (" ".join(str(error).split()) or type(error).__name__)[:200].rstrip(".")
            raise TaskRowsError(f"The split {split} of {self.path} did not load ({reason}): mend it there.") from error
        named = [row_digest(row) for row in rows]
        seen: dict[str, int] = {}
        docs = []
        for name, row in zip(named, rows, strict=True):
            seen[name] = seen.get(name, 0) + 1
            docs.append(Doc(name if seen[name] == 1 else f"{name}~{seen[name]}", row))
        return docs


def read_included(path: Path, *, functions: bool = False) -> IncludedTask:
    """The task of a task file of lm-eval.

    Args:
        path: absolute.
        functions: whether Python functions that it names with `!function` may be imported, which runs them.

    Raises:
        TaskFileError: it is none, or needs what is not supported here.
    """
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        files = _files(path)
        named = [file for file in files if _names_functions(file)]
        if named and not functions:
            raise TaskFileError(
                f"{named[0]} names Python functions (!function), which would be run: allow it with "
                "--set include_functions=true."
            )
        config = load_yaml(path, resolve_func=bool(named))
    except TaskFileError:
        raise
    except Exception as error:  # of YAML, or of a module that is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise TaskFileError(f"The task file {path} cannot be read ({reason}): mend it there.") from error
    # What a named function imports in turn is not followed, but the Python files beside the task file are.
    code = sorted({module for file in named for module in file.parent.glob("*.py")})
    identity = digest([[file_sha256(file) for file in files], [file_sha256(module) for module in code]], 12)
    return IncludedTask(_card(path, config), path, config, identity)


def _files(path: Path, seen: tuple[Path, ...] = ()) -> list[Path]:
    """A task file and those that it includes."""
    if path in seen:
        return []
    try:
        included = yaml_value(file_text(path), tags=("!function",)).get("include") or []
    except FileNotFoundError:
        raise TaskFileError(f"There is no task file {path}: mend what includes it.") from None
    except Unreadable as error:
        raise TaskFileError(f"The task file {path} {error}: mend it there.") from None
    except AttributeError:
        raise TaskFileError(f"The task file {path} must be a mapping of keys to values: mend it there.") from None
    found = [path]
    for name in included if isinstance(included, list) else [included]:
        found += _files((path.parent / str(name)).resolve(), (*seen, *found))
    return found


def _names_functions(file: Path) -> bool:
    return any(getattr(event, "tag", None) == "!function" for event in yaml.parse(file_text(file)))


def _fewshot_split(config: Mapping[str, Any]) -> str | None:
    """The split that few-shot examples come from, in lm-eval's order."""
    order = ("fewshot_split", "training_split", "validation_split", "test_split")
    return next((str(config[key]) for key in order if config.get(key)), None)


def _anchored(arguments: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Local `data_files` and `data_dir` relative to the task file's folder."""

    def anchored(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: anchored(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [anchored(one) for one in value]
        return value if "://" in str(value) else str(folder / str(value))

    return {key: anchored(value) if key in ("data_files", "data_dir") else value for key, value in arguments.items()}


def _card(path: Path, config: Mapping[str, Any]) -> TaskCard:
    name, kind = config.get("task"), config.get("output_type", "generate_until")
    if not isinstance(name, str):
        raise TaskFileError(f"{path} is no task file of lm-eval with one task: give its name as `task:`.")

    def refuse(problem: str) -> TaskFileError:
        return TaskFileError(f"The task {name} of {path} {problem}, which is not supported: use another task file.")

    for key, problem in _REFUSED.items():
        if config.get(key):
            raise refuse(problem)
    if kind not in OUTPUT_TYPES:
        raise refuse(f"has the output type {kind} instead of {', '.join(OUTPUT_TYPES)}")
    if not config.get("dataset_path"):
        raise TaskFileError(f"The task {name} of {path} names no data: give dataset_path.")
    if (config.get("dataset_kwargs") or {}).get("trust_remote_code"):
        raise refuse("runs code of its data set")
    generation = config.get("generation_kwargs") or {}
    if generation.get("do_sample") and float(generation.get("temperature") or 0) > 0:
        raise refuse("samples its answers")
    if config.get("repeats", 1) != 1:
        raise refuse("asks every question several times")
    metrics = [str(metric.get("metric")) for metric in config.get("metric_list") or []]
    if "acc_mutual_info" in metrics:
        raise refuse("measures acc_mutual_info")
    shots = int(config.get("num_fewshot") or 0)
    if (config.get("fewshot_config") or {}).keys() - {"sampler"} or (
        (config.get("fewshot_config") or {}).get("sampler", "default") != "default"
    ):
        raise refuse("chooses its few-shot examples itself (fewshot_config)")
    split = config.get("test_split") or config.get("validation_split")
    if not split:
        raise TaskFileError(f"The task {name} of {path} evaluates nothing: give test_split or validation_split.")
    metrics = metrics or ["acc" if kind != "generate_until" else "exact_match"]
    values = {
        "name": name,
        "summary": f"The lm-evaluation-harness task file {path.name}.",
        "family": "file",
        "set": name,
        "config": str(config.get("dataset_name") or "default"),
        "columns": (),
        "inputs": (),
        "splits": {},
        "roles": {"eval": str(split)},
        "licence": "not stated",
        "expert": name,
        "metrics": tuple(dict.fromkeys(metrics)),
        "primary": metrics[0],
        "generative": kind == "generate_until",
        "shots": shots,
        "sources": ("file",),
        "body": f"The task file `{path}` ({kind}). Prompts, filters and metrics are lm-eval's; it is evaluated alone.",
    }
    return TaskCard.model_validate({"class": "tasks.included_task:IncludedTask", **values})


def _plain(value: Any) -> Any:
    """A result as JSON data."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
