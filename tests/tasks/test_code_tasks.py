"""HumanEval and MBPP: prompts, answers cut out of texts, verdicts and pass@k."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from tasks import registry
from tasks.base import Doc, TaskSettings
from tasks.code_task import CodeBound, cut, pass_at_k
from tasks.mbpp import Mbpp, published_examples
from tasks.sandbox import Outcome, Program, SandboxUnavailable, Verdict, evaluate_programs
from tasks.sandbox import levels as levels_module
from tasks.sandbox.level import Level
from tasks.sandbox.levels import NAMES, Probe, named
from tasks.sources import BundledSource, DirectorySource


def bound(name: str, source: object, **settings: object) -> CodeBound:
    found = registry.create(name).bind(source, TaskSettings(**settings))  # type: ignore[arg-type]
    assert isinstance(found, CodeBound)
    return found


@pytest.mark.parametrize(("n", "c"), [(1, 0), (1, 1), (5, 2), (6, 0), (6, 6), (7, 3)])
def test_pass_at_k_counts_subsets(n: int, c: int) -> None:
    answers = [True] * c + [False] * (n - c)
    for k in range(1, n + 1):
        drawn = [any(subset) for subset in itertools.combinations(answers, k)]
        assert math.isclose(pass_at_k(n, c, k), sum(drawn) / len(drawn))


def test_pass_at_k_needs_k_answers() -> None:
    with pytest.raises(ValueError, match="pass@3 needs 3 judged answers"):
        pass_at_k(2, 1, 3)


def test_texts_are_cut_at_the_first_stop() -> None:
    assert cut("a\nb\ndef c", ["\nif", "\ndef", "\nb\n"]) == "a"
    assert cut("a", ["\ndef"]) == "a"


def test_humaneval_prompt_is_the_published_one(written: DirectorySource) -> None:
    task = bound("humaneval", written)
    doc = task.eval_docs()[0]
    (request,) = task.requests(doc, 0)
    assert request.prefix + request.context == doc.row["prompt"]
    assert request.until == ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
    assert task.example(doc).target == doc.row["canonical_solution"]
    assert [len(rows) for rows in task.parts.values()] == [0, 0, 0, 40]
    assert task.version == "1.0/2"


def mbpp_question(row: dict[str, object]) -> str:
    """The template of lm-eval's mbpp.yaml, written out."""
    tests = "\n".join(row["test_list"])  # type: ignore[arg-type]
    return (
        f"You are an expert Python programmer, and here is your task: {row['text']} "
        f"Your code should pass these tests:\n\n{tests}\n[BEGIN]\n"
    )


def test_mbpp_prompt_is_the_published_one(written: DirectorySource) -> None:
    task = bound("mbpp", written)
    doc = task.eval_docs()[0]
    (request,) = task.requests(doc, 0)
    shots = [f"{mbpp_question(dict(d.row))}{d.row['code']}\n[DONE]\n\n" for d in published_examples()]
    assert [d.id for d in published_examples()] == ["2", "3", "4"]
    assert request.prefix == "".join(shots)
    assert request.context == mbpp_question(dict(doc.row))
    assert request.until == ("[DONE]",)
    assert task.example(doc).target == f"{doc.row['code']}\n[DONE]"


def test_other_shots_are_drawn_from_the_training_part(written: DirectorySource) -> None:
    two = bound("mbpp", written, shots=2)
    per_item = bound("mbpp", written, shots=3, fewshot="per_item")
    for task in (two, per_item):
        prefix = task.requests(task.eval_docs()[0], 0)[0].prefix
        assert prefix.count("[DONE]") == task.settings.shots
        assert "similar elements" not in prefix


def test_conversations_take_the_instruct_prompts(written: DirectorySource) -> None:
    def chat(messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        text = "".join(f"<{message['role']}>{message['content']}" for message in messages)
        return text + ("<assistant>" if add_generation_prompt else "")

    for name, opening in (("humaneval", "the completed function:\n```python\n"), ("mbpp", "```python\n")):
        task = registry.create(name).bind(written, TaskSettings(chat_template=True, shots=0), chat)
        doc = task.eval_docs()[0]
        (request,) = task.requests(doc, 0)
        assert request.context.startswith("<user>")
        assert opening in request.context.partition("<assistant>")[2]
        assert request.until == ("```",)
        assert any("instruct" in sentence for sentence in task.deviations)


@pytest.mark.system
def test_verdicts_become_metrics(written: DirectorySource) -> None:
    task = bound("humaneval", written, samples=4, temperature=0.8)
    assert [info.name for info in task.metrics] == ["pass@1", "pass@2", "bits_per_byte", "pass@1_unscored_as_0"]
    doc, other = task.eval_docs()[:2]
    (request,) = task.requests(doc, 0)
    assert (request.samples, request.temperature) == (4, 0.8)
    right, wrong = doc.row["canonical_solution"], "    return None\n"
    items = task.score_all([doc, other], [[right, wrong, right + "\ndef more", "    loop("], [wrong] * 4])
    assert items[0].extra["outcomes"] == ["passed", "failed", "passed", "failed"]
    assert items[0].metrics == {"pass@1": pytest.approx(0.5), "pass@2": pytest.approx(5 / 6)}
    assert items[1].metrics == {"pass@1": 0, "pass@2": 0}
    assert task.aggregate(items)["pass@1"] == (pytest.approx(0.25), 2)
    sandbox = task.record_extra()["sandbox"]
    assert sandbox["level"] == items[0].extra["level"] in NAMES
    assert sandbox["outcomes"] == {"passed": 2, "failed": 6}
    assert sandbox["versions"] == named(sandbox["level"]).versions()
    assert isinstance(sandbox["control groups"], list)


def faked(monkeypatch: pytest.MonkeyPatch, outcomes: Sequence[Outcome]) -> list[int]:
    """Verdicts given out in order; returns how many programs each call was given."""
    calls: list[int] = []
    queue = iter(outcomes)

    def evaluate(programs: Sequence[Program], **_: object) -> list[Verdict]:
        calls.append(len(programs))
        return [Verdict(next(queue), "", 0.1, "fake") for _ in programs]

    monkeypatch.setattr("tasks.code_task.evaluate_programs", evaluate)
    monkeypatch.setattr("tasks.code_task.strongest", lambda minimum: named("process"))
    return calls


def test_answers_without_a_verdict_do_not_count(written: DirectorySource, monkeypatch: pytest.MonkeyPatch) -> None:
    faked(monkeypatch, [Outcome.UNSCORABLE, Outcome.PASSED, Outcome.ISOLATION_ERROR, Outcome.FAILED])
    task = bound("humaneval", written, samples=2, temperature=1.0)
    docs = task.eval_docs()[:2]
    items = task.score_all(docs, [["a", "b"], ["c", "d"]])
    assert items[0].metrics == {"pass@1": 1.0, "pass@2": None}
    assert items[1].metrics == {"pass@1": 0.0, "pass@2": None}
    assert task.aggregate(items) == {"pass@1": (0.5, 2)}
    sandbox = task.record_extra()["sandbox"]
    assert sandbox["unscorable"] == [docs[0].id]
    assert sandbox["isolation_error"] == [docs[1].id]


def test_equal_answers_run_once(written: DirectorySource, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = faked(monkeypatch, [Outcome.PASSED, Outcome.TIMEOUT, Outcome.TIMEOUT])
    task = bound("humaneval", written, samples=3, temperature=1.0)
    doc = task.eval_docs()[0]
    first = task.score(doc, ["a", "a", "b"])
    assert calls == [2]
    assert first.extra["outcomes"] == ["passed", "passed", "timeout"]
    assert task.score(doc, ["a", "a", "b"]).metrics == first.metrics
    assert calls == [2, 1], "a time-out is tried again, a verdict is kept"


def test_nothing_is_scored_below_the_minimum(written: DirectorySource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels_module, "probe", lambda name: Probe(name == "process", f"install {name}"))
    task = bound("humaneval", written)
    doc = task.eval_docs()[0]
    with pytest.raises(SandboxUnavailable, match="install bubblewrap"):
        task.score(doc, ["    return 1"])
    task.min_isolation = "process"
    other = task.with_settings(task.settings)
    assert other.min_isolation == "process"
    assert other.score(doc, [doc.row["canonical_solution"]]).metrics["pass@1"] == 1


def mbpp_row(code: str, tests: list[str], setup: str = "") -> Doc:
    return Doc("1", {"code": code, "test_list": tests, "test_setup_code": setup})


def test_mbpp_finds_what_the_candidate_defines() -> None:
    make = Mbpp(registry.card("mbpp")).program
    code = "import sys, math\nclass Pair: pass\ndef sum(a, b): return helper(a) + b\ndef helper(a): return a"
    program = make(mbpp_row(code, ["assert sum(Pair(), sys.maxsize) == 1"], "x = Pair()"), "answer")
    assert program.functions == ("Pair", "sum")
    assert program.setup == "import sys, math"
    assert program.tests == "x = Pair()\nassert sum(Pair(), sys.maxsize) == 1"
    assert (program.code, program.reference) == ("answer", code)
    assert program.needed == ("sys",)


def test_mbpp_takes_what_nobody_else_defines_from_the_candidate() -> None:
    make = Mbpp(registry.card("mbpp")).program
    program = make(mbpp_row("def f(x): return x", ["assert f(limit) == len([y for y in limit])"]), "answer")
    assert program.functions == ("f", "limit")
    assert (program.setup, program.needed) == ("", ())


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.system, pytest.mark.assets]) for name in NAMES])
def level(request: pytest.FixtureRequest) -> Level:
    found = named(request.param)
    if (reason := found.missing()) is not None:
        pytest.skip(reason)
    return found


def references_that_fail(task: CodeBound, docs: Sequence[Doc], level: Level) -> list[tuple[str, Verdict]]:
    programs = [task.program(doc, task.example(doc).target) for doc in docs]
    verdicts = evaluate_programs(programs, level=level)
    return [(p.id, v) for p, v in zip(programs, verdicts, strict=True) if v.outcome is not Outcome.PASSED]


def test_every_reference_solution_of_humaneval_passes(level: Level, bundled: BundledSource) -> None:
    task = bound("humaneval", bundled)
    docs = task.eval_docs()
    assert len(docs) == 164
    if level.name != "bubblewrap":
        docs = docs[::4]  # all of them take a minute at some levels
    assert references_that_fail(task, docs, level) == []


def test_every_reference_solution_of_mbpp_passes(level: Level, bundled: BundledSource) -> None:
    task = bound("mbpp", bundled)
    docs = sorted((doc for rows in task.parts.values() for doc in rows), key=lambda doc: int(doc.id))
    assert len(docs) == 500
    docs = docs[350:400]  # with 367, which builds objects; all of them take minutes: python -m tests.tasks.references
    assert references_that_fail(task, docs, level) == []


@pytest.mark.system
@pytest.mark.assets
def test_empty_answers_fail(bundled: BundledSource) -> None:
    """The checks have teeth: a body that returns nothing passes none of them."""
    task = bound("humaneval", bundled, limit=30)
    docs = task.eval_docs()
    items = task.score_all(docs, [["    return None\n"] for _ in docs])
    assert sum(item.metrics["pass@1"] or 0 for item in items) == 0


def test_published_examples_need_lm_eval_as_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import lm_eval

    (tmp_path / "tasks/mbpp").mkdir(parents=True)
    (tmp_path / "tasks/mbpp/utils.py").write_text("def other(): return []\n")
    monkeypatch.setattr(lm_eval, "__file__", str(tmp_path / "__init__.py"))
    published_examples.cache_clear()
    with pytest.raises(LookupError, match="not supported"):
        published_examples()
    published_examples.cache_clear()
