"""A task in one file: rows of four kinds, and task files of lm-evaluation-harness."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks import conformance, registry
from tasks.base import PARTS, BoundTask, TaskSettings
from tasks.files import TaskFileError
from tasks.row_file import read_row_file
from tasks.sources import DirectorySource, SourceError

CHOICES = [
    {"question": f"Which is {i}?", "choices": [f"a{i}", f"b{i}", f"c{i}"], "answer": f"{'abc'[i % 3]}{i}"}
    for i in range(40)
]
FREE = [{"question": f"What is {i} plus {i}?", "answer": i + i} for i in range(40)]


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_BROUGHT", {})


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="") as lines:
            writer = csv.DictWriter(lines, list(rows[0]))
            writer.writeheader()
            writer.writerows({k: json.dumps(v) if k == "choices" else v for k, v in row.items()} for row in rows)
    elif path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def bound(path: Path, **settings: Any) -> BoundTask:
    name = registry.bring(path)
    return registry.create(name).bind(DirectorySource(path.parent), TaskSettings(**settings))


@pytest.mark.parametrize("rows", [CHOICES, FREE], ids=["choices", "free"])
@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl", ".parquet"])
def test_rows_mean_the_same_in_every_kind_of_file(tmp_path: Path, suffix: str, rows: list[dict[str, Any]]) -> None:
    one = bound(write(tmp_path / f"one{suffix}", rows))
    plain = bound(write(tmp_path / "plain.jsonl", rows))
    assert one.parts == plain.parts
    assert one.fingerprint == plain.fingerprint
    assert all(one.parts[part] for part in PARTS)
    assert (one.source, one.origin) == ("file", str(tmp_path / f"one{suffix}"))


@pytest.mark.parametrize("rows", [CHOICES, FREE], ids=["choices", "free"])
def test_it_conforms(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    conformance.check(bound(write(tmp_path / "quiz.jsonl", rows)))


def test_letters_and_shots_work(tmp_path: Path) -> None:
    task = bound(write(tmp_path / "quiz.jsonl", CHOICES), prompt="letters", shots=2)
    first = task.requests(task.eval_docs()[0], 0)
    assert [request.continuation for request in first] == [" A", " B", " C"]
    assert first[0].prefix.count("Question:") == 2
    assert registry.parse("quiz@2-shot") == ("quiz", 2)


def test_free_answers_match_exactly_up_to_white_space(tmp_path: Path) -> None:
    task = bound(write(tmp_path / "sums.jsonl", FREE))
    doc = task.eval_docs()[0]
    gold = str(doc.row["answer"])
    assert [task.score(doc, [text]).metrics["exact_match"] for text in (f" {gold}\n", f"{gold}0", "")] == [1, 0, 0]
    assert task.requests(doc, 0)[0].until == ("\n",)


def test_an_answer_is_a_text_a_position_or_a_letter(tmp_path: Path) -> None:
    rows = [{"question": str(i), "choices": ["x", "y", "z"], "answer": a} for i, a in enumerate(["y", 1, "B"])]
    assert [row["answer"] for row in read_row_file(write(tmp_path / "a.jsonl", rows))[0]] == [1, 1, 1]
    numbers = [{"question": "q", "choices": [2, 1, 0], "answer": 0}]
    assert read_row_file(write(tmp_path / "b.jsonl", numbers))[0][0]["answer"] == 2


GOOD = {"question": "q?", "choices": ["x", "y"], "answer": "x"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**GOOD, "answer": "z"}, r"Row 2 of .*, field answer: got \"z\"; write one of the 2 choices"),
        ({**GOOD, "answer": 2}, "field answer: got 2"),
        ({**GOOD, "answer": True}, "field answer: got true"),
        ({**GOOD, "choices": ["x"]}, r"field choices: got \[\"x\"\]; write a list of at least two"),
        ({**GOOD, "choices": ["x", "x"]}, "two of them are the same"),
        ({**GOOD, "choices": ["1", "0"], "answer": 0}, "a position and the text of another choice"),
        ({**GOOD, "question": " "}, 'field question: got " "'),
        ({"choices": ["x", "y"], "answer": "x"}, "Row 2 of .* lacks the field question"),
        ({"question": "q?", "answer": "x"}, "give choices to all rows or to none"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        registry.bring(write(tmp_path / "quiz.jsonl", [GOOD, row]))
    assert "\n" not in str(caught.value)


def test_misspelled_missing_and_taken_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="have the field 'choises': name it 'choices'"):
        registry.bring(write(tmp_path / "a.jsonl", [{"question": "q", "choises": ["x", "y"], "answer": "x"}]))
    with pytest.raises(TaskFileError, match="There is no task file"):
        registry.bring(tmp_path / "none.csv")
    with pytest.raises(registry.DuplicateTask, match="There is a task 'gsm8k' already"):
        registry.bring(write(tmp_path / "gsm8k.jsonl", FREE))
    with pytest.raises(registry.DuplicateTask, match="'arc' is the expert of arc-c and arc-e"):
        registry.bring(write(tmp_path / "arc.jsonl", FREE))
    registry.bring(write(tmp_path / "quiz.jsonl", FREE))
    with pytest.raises(registry.DuplicateTask, match="Two files hold a task 'quiz'"):
        registry.bring(write(tmp_path / "quiz.csv", CHOICES))


YAML = """
task: outside
dataset_path: json
dataset_kwargs: {data_files: {test: rows.jsonl}}
test_split: test
doc_to_text: "{{question}}"
"""
KINDS = {
    "multiple_choice": "doc_to_choice: choices\ndoc_to_target: '{{choices.index(answer)}}'\n"
    "metric_list: [{metric: acc}, {metric: acc_norm}, {metric: brier_score}]\n",
    "loglikelihood": "doc_to_target: '{{answer}}'\nmetric_list: [{metric: perplexity}, {metric: acc}]\n",
    "generate_until": "doc_to_target: '{{answer}}'\ngeneration_kwargs: {until: ['.'], max_gen_toks: 7}\n"
    "filter_list: [{name: strip, filter: [{function: remove_whitespace}, {function: take_first}]}]\n"
    "metric_list: [{metric: exact_match}]\n",
}


@pytest.fixture(scope="module")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    import datasets

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("datasets")))
        yield


def included(tmp_path: Path, text: str) -> Path:
    write(tmp_path / "rows.jsonl", CHOICES)
    (tmp_path / "outside.yaml").write_text(text)
    return tmp_path / "outside.yaml"


@pytest.mark.usefixtures("_cache")
@pytest.mark.parametrize("kind", KINDS)
def test_a_task_file_of_lm_eval_is_evaluated(tmp_path: Path, kind: str) -> None:
    task = bound(included(tmp_path, f"{YAML}output_type: {kind}\n{KINDS[kind]}"))
    conformance.check(task)
    assert {part: len(rows) for part, rows in task.parts.items() if rows} == {"eval": 40}
    doc = task.eval_docs()[0]
    if kind == "generate_until":
        request = task.requests(doc, 0)[0]
        assert (request.until, request.max_new_tokens) == ((".",), 7)
        assert task.score(doc, [f"  {doc.row['answer']}"]).metrics == {"exact_match": 1.0}
    else:
        n = len(task.requests(doc, 0))
        item = task.score(doc, [(-1.0 - k, k == 0) for k in range(n)])
        assert item.metrics.keys() == ({"acc", "acc_norm"} if n == 3 else {"acc"})
        totals = task.aggregate([item])
        assert totals.keys() == ({"acc", "acc_norm", "brier_score"} if n == 3 else {"acc", "perplexity"})
        if n == 1:
            assert totals["perplexity"][0] == pytest.approx(2.718281828)


@pytest.mark.usefixtures("_cache")
@pytest.mark.usefixtures("_cache")
@pytest.mark.parametrize("rows", ["", '{"question": '])
def test_rows_that_cannot_be_used_are_the_tasks_own_fault(tmp_path: Path, rows: str) -> None:
    """A plan refuses the cells of such a task and goes on with the others, which a `SourceError` asks for."""
    path = included(tmp_path, f"{YAML}output_type: multiple_choice\n{KINDS['multiple_choice']}")
    (tmp_path / "rows.jsonl").write_text(rows)
    with pytest.raises(SourceError, match=r"outside\.yaml"):
        bound(path)


def test_its_text_is_part_of_its_version(tmp_path: Path) -> None:
    text = f"{YAML}output_type: loglikelihood\n{KINDS['loglikelihood']}"
    before = bound(included(tmp_path, text)).version
    after = bound(included(tmp_path, text.replace("{{question}}", "Q: {{question}}"))).version
    assert before != after


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("process_docs: !function utils.f", "names Python functions .*include_functions=true"),
        ("output_type: loglikelihood_rolling", "has the output type loglikelihood_rolling"),
        ("repeats: 8", "asks every question several times"),
        ("generation_kwargs: {do_sample: true, temperature: 0.7}", "samples its answers"),
        ("dataset_kwargs: {trust_remote_code: true}", "runs code of its data set"),
        ("test_split: null", "evaluates nothing"),
        ("task: [a, b]", "no task file of lm-eval with one task"),
        ("doc_to_text: [", "is not valid YAML"),
    ],
)
def test_what_is_not_supported_is_one_sentence(tmp_path: Path, line: str, message: str) -> None:
    key = line.partition(":")[0]
    kept = "".join(f"{one}\n" for one in YAML.strip().splitlines() if not one.startswith(f"{key}:"))
    with pytest.raises(TaskFileError, match=message) as caught:
        registry.bring(included(tmp_path, f"{kept}{line}\n"))
    assert "\n" not in str(caught.value)
