"""lm-evaluation-harness's own task object over rows in memory: its prompts, targets, filters and metrics.

Imported when a task is bound: it loads `lm_eval` and `datasets` (about a second).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.api.instance import Instance
from lm_eval.api.registry import AGGREGATION_REGISTRY, get_metric_aggregation, is_higher_better
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml
from lm_eval.utils import env

from tasks.base import ChatTemplate
from tasks.sources.base import View

_EVAL = "eval"


class Rows(list[View]):
    """The little that lm-eval's tasks ask of a `datasets.Dataset`, without its cost for single rows."""

    @property
    def features(self) -> dict[str, None]:
        """Column names as keys."""
        return dict.fromkeys(self[0])

    def map(self, function: Callable[[View], View]) -> Rows:
        """Every row with the columns that `function` returns added or replaced."""
        return Rows({**row, **function(row)} for row in self)


def task_file(name: str, *, resolve_functions: bool = True) -> dict[str, Any]:
    """A task file of lm-eval as a dictionary.

    Args:
        name: path under lm_eval/tasks.
        resolve_functions: import what `!function` names; False leaves the names (for files whose helpers run code or
            touch the network when imported).
    """
    return load_yaml(Path(lm_eval.__file__).parent / "tasks" / name, resolve_func=resolve_functions)


class Prompter(ConfigurableTask):
    """An lm-eval task whose rows and few-shot examples are handed in."""

    def __init__(self, config: Mapping[str, Any], row: View) -> None:
        """Build from a task file.

        Args:
            config: as `task_file` gives it, changed as needed.
            row: any one row (before the file's `process_docs`), from which lm-eval learns the columns.
        """
        config = dict(config)
        self._process = config.pop("process_docs", None) or (lambda rows: rows)
        self._row = self.view(row)
        super().__init__(config=_prepared(config, self._row))

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Nothing is fetched: rows are handed in."""
        self.dataset = {_EVAL: Rows([self._row])}

    def view(self, row: View) -> View:
        """The row after lm-eval's own preprocessing of the data set."""
        processed: View = self._process(Rows([row]))[0]
        return processed

    def render(self, view: View, shots: Sequence[View], chat: ChatTemplate | None) -> tuple[str, str]:
        """The text before the answer, as few-shot prefix and rest; joined they are lm-eval's `fewshot_context`."""
        self.sampler = _Given(shots)
        if chat is not None:
            return self._conversation(view, len(shots), chat)
        whole = self.fewshot_context(view, len(shots), gen_prefix=self.doc_to_prefix(view))
        question = self.build_qa_turn(
            q=self.doc_to_text(view), gen_prefix=self.doc_to_prefix(view), tgt_delim=self.config.target_delimiter
        )
        context = "".join(message.to_text() for message in question)
        return whole.removesuffix(context), context

    def continuations(self, view: View, *, chat: bool) -> list[str]:
        """Every choice as scored, with its delimiter; for generative tasks the gold answer."""
        if self.OUTPUT_TYPE == "multiple_choice":
            requests = self.construct_requests(view, "", apply_chat_template=chat)
            return [request.args[1] for request in requests]
        return [("" if chat else self.config.target_delimiter) + str(self.doc_to_target(view))]

    def gold_index(self, view: View) -> int:
        """Position of the gold choice."""
        gold = self.doc_to_target(view)
        return gold if isinstance(gold, int) else self.doc_to_choice(view).index(gold)

    def filtered(self, view: View, texts: Sequence[str]) -> dict[str, str]:
        """What each of the task's filters makes of the generated texts, by the filter's name."""
        instance = Instance("generate_until", doc=view, arguments=("", {}), idx=0)
        instance.resps = list(texts)
        for ensemble in self._filters:
            ensemble.apply([instance])
        return instance.filtered_resps

    def _conversation(self, view: View, shots: int, chat: ChatTemplate) -> tuple[str, str]:
        turns: list[dict[str, str]] = []

        def record(messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
            turns.extend(messages)
            return chat(messages, add_generation_prompt=add_generation_prompt)

        prefix = self.doc_to_prefix(view)
        whole = self.fewshot_context(
            view,
            shots,
            apply_chat_template=True,
            fewshot_as_multiturn=True,
            chat_template=record,
            gen_prefix=prefix,
        )
        earlier = turns[: -2 if prefix else -1] if shots else []
        # A template may render earlier turns differently once others follow: then nothing is shared.
        shared = chat(earlier, add_generation_prompt=False) if earlier else ""
        return (shared, whole.removeprefix(shared)) if whole.startswith(shared) else ("", whole)


class _Given:
    """A sampler in lm-eval's sense that returns the examples it was given."""

    def __init__(self, docs: Sequence[View]) -> None:
        self.docs = docs

    def sample(self, n: int, **_: Any) -> Sequence[View]:
        return self.docs[:n]


def _prepared(config: dict[str, Any], row: View) -> dict[str, Any]:
    """Splits point at the rows in memory, templates are compiled, what lm-eval would default with a warning is said."""
    config |= {"training_split": None, "validation_split": None, "fewshot_split": None, "num_fewshot": 0}
    config |= {"test_split": _EVAL, "dataset_path": None, "dataset_name": None, "dataset_kwargs": None}
    has_choices = config.get("doc_to_choice") is not None
    for key in ("doc_to_text", "doc_to_target", "doc_to_choice"):
        template = config.get(key)
        if isinstance(template, str) and template not in row:
            config[key] = _compiled(template, as_list=key == "doc_to_choice", as_index=has_choices)
    config["metric_list"] = [_spelled(metric) for metric in config.get("metric_list") or []]
    return config


def _compiled(template: str, *, as_list: bool, as_index: bool) -> Callable[[View], Any]:
    """A template as a function: lm-eval compiles it anew for every row, which costs 30 times the rendering."""
    render = env.from_string(template).render

    def apply(view: View) -> Any:
        text = render(**view)
        if as_list or (as_index and text.isdigit()):
            return ast.literal_eval(text)
        return text

    return apply


def _spelled(metric: dict[str, Any]) -> dict[str, Any]:
    if "aggregation" in metric and "higher_is_better" in metric:
        return metric
    aggregations = {function: name for name, function in AGGREGATION_REGISTRY.items()}
    name = metric["metric"]
    return {
        "aggregation": aggregations[get_metric_aggregation(name)],
        "higher_is_better": is_higher_better(name),
        **metric,
    }
