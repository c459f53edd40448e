"""Bound tasks in detail: identities, limits, prompts, few-shot, chat, scores, deviations."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tasks import registry
from tasks.base import BoundTask, TaskSettings, TaskUnavailable
from tasks.fewshot import FewShot
from tasks.flan import FLAN
from tasks.medical import MedQa, PubMedQa
from tasks.pubmedqa_split import TEST_IDS
from tasks.sources import BundledSource, DatasetRef, DirectorySource, Row


def _bind(name: str, source: Any, **settings: Any) -> BoundTask:
    return registry.create(name).bind(source, TaskSettings(**settings))


class Listed:
    """A source of given splits."""

    kind = "dir"

    def __init__(self, **splits: list[Row]) -> None:
        self.splits = splits

    def describe(self) -> str:
        return "a list"

    def has(self, dataset: DatasetRef, split: str) -> bool:
        return split in self.splits

    def rows(self, dataset: DatasetRef, split: str) -> list[Row]:
        return self.splits[split]

    def origin(self, dataset: DatasetRef) -> str:
        return "list"


def _gsm8k(*numbers: int) -> list[Row]:
    return [{"question": f"How many are {n}?", "answer": f"There are {n}.\n#### {n}"} for n in numbers]


class TestIdentity:
    def test_ids_are_native_or_hashed(self, written: DirectorySource) -> None:
        assert {doc.id for doc in _bind("arc-e", written).parts["eval"]} == {f"Q_{i}" for i in range(100, 140)}
        gsm8k = _bind("gsm8k", written).parts["eval"][0]
        assert len(gsm8k.id) == 12
        sst2 = _bind("sst2", written).parts["eval"][0]
        assert sst2.id.startswith(f"{sst2.row['idx']}-")

    def test_equal_rows_get_a_suffix(self) -> None:
        bound = _bind("gsm8k", Listed(train=_gsm8k(1, 2), test=_gsm8k(3, 4, 3)))
        ids = [doc.id for doc in bound.parts["eval"]]
        assert len(set(ids)) == 3
        assert [name for name in ids if "~" in name] == [f"{ids[0]}~2"]

    def test_fingerprint_follows_content_and_parts_not_order(self) -> None:
        def fingerprint(train: list[Row], test: list[Row]) -> str:
            return _bind("gsm8k", Listed(train=train, test=test)).fingerprint

        base = fingerprint(_gsm8k(1, 2), _gsm8k(3, 4))
        assert fingerprint(_gsm8k(2, 1), _gsm8k(4, 3)) == base
        assert fingerprint(_gsm8k(1, 2), _gsm8k(3, 5)) != base
        assert fingerprint(_gsm8k(1), _gsm8k(3, 4)) != base
        assert fingerprint(_gsm8k(3, 4), _gsm8k(1, 2)) != base

    def test_deviations_say_what_differs(self) -> None:
        bound = _bind("gsm8k", Listed(train=_gsm8k(1, 2, 3), test=_gsm8k(3, 4)))
        text = " ".join(bound.deviations)
        assert "train: 3 of 7473 official rows." in text
        assert "test: 2 of 1319 official rows." in text
        assert "dropped because their input also occurs in a later part: 1 of" in text

    @pytest.mark.assets
    def test_whole_data_has_no_count_to_report(self, bundled: BundledSource) -> None:
        deviations = _bind("arc-c", bundled).deviations
        assert deviations[0] == "Without a training split, validation rows are the training parts."
        assert not any("official rows" in deviation for deviation in deviations)

    def test_resolved_shots_stand_in_the_settings(self, written: DirectorySource) -> None:
        assert _bind("gsm8k", written).settings.shots == registry.card("gsm8k").shots
        assert _bind("gsm8k", written, shots=2).settings.shots == 2


class TestPrompts:
    def test_cloze_and_letters(self, written: DirectorySource) -> None:
        cloze, letters = _bind("arc-e", written), _bind("arc-e", written, prompt="letters")
        doc = next(doc for doc in cloze.parts["eval"] if doc.row["choices"]["label"][0] == "1")
        texts = doc.row["choices"]["text"]
        gold = doc.row["choices"]["label"].index(doc.row["answerKey"])
        assert cloze.requests(doc, 0)[0].context == f"Question: {doc.row['question']}\nAnswer:"
        assert [r.continuation for r in cloze.requests(doc, 0)] == [f" {text}" for text in texts]
        listed = "\n".join(f"{letter}. {text}" for letter, text in zip("ABCDE", texts, strict=False))
        assert letters.requests(doc, 0)[0].context == f"Question: {doc.row['question']}\n{listed}\nAnswer:"
        assert [r.continuation for r in letters.requests(doc, 0)] == [f" {x}" for x in "ABCDE"[: len(texts)]]
        assert letters.example(doc).target == f" {'ABCDE'[gold]}"
        assert (cloze.primary, letters.primary) == ("acc_norm", "acc")
        assert [info.name for info in letters.metrics] == ["acc"]

    @pytest.mark.parametrize("name", [n for n in registry.names() if not registry.card(n).letters])
    def test_letters_leave_verbal_labels_alone(self, name: str, written: DirectorySource) -> None:
        if not any(written.has(registry.card(name).dataset, split) for split in registry.card(name).splits):
            pytest.skip("no rows written for it")
        cloze, letters = _bind(name, written), _bind(name, written, prompt="letters")
        for doc in cloze.eval_docs()[:3]:
            assert cloze.requests(doc, 0) == letters.requests(doc, 0)
        assert cloze.primary == letters.primary

    @pytest.mark.parametrize("name", FLAN)
    def test_flan(self, name: str, written: DirectorySource) -> None:
        cloze, flan = _bind(name, written), _bind(name, written, prompt="flan")
        answers = {"sst2": ["negative", "positive"], "cola": ["unacceptable", "acceptable"], "rte": ["yes", "no"]}
        expected = answers.get(name, ["no", "yes"])
        for doc in flan.eval_docs()[:4]:
            requests = flan.requests(doc, 0)
            assert [request.continuation for request in requests] == [f" {answer}" for answer in expected]
            (context,) = {request.context for request in requests}
            assert context.endswith("OPTIONS:" + "".join(f"\n- {answer}" for answer in expected))
            assert all(str(doc.row[column]) in context for column in registry.card(name).inputs)
            assert flan.example(doc).prompt == context
            assert flan.example(doc).target == f" {expected[doc.row['label']]}"
        assert cloze.requests(doc, 0)[0].context != context
        assert [info.name for info in flan.metrics] == [info.name for info in cloze.metrics]
        assert "{" not in flan.requests(doc, 0)[0].context

    @pytest.mark.parametrize("name", ["gsm8k", "arc-e"])
    def test_a_task_without_a_flan_prompt_says_so(self, name: str, written: DirectorySource) -> None:
        with pytest.raises(TaskUnavailable, match=r"no FLAN prompt, which sst2, cola, mrpc, qqp, rte have"):
            _bind(name, written, prompt="flan")

    def test_generation_takes_the_budget_of_tokens(self, written: DirectorySource) -> None:
        bound = _bind("gsm8k", written, max_new_tokens=77)
        (request,) = bound.requests(bound.eval_docs()[0], 0)
        assert (request.kind, request.max_new_tokens, request.temperature) == ("generate", 77, 0.0)
        assert "Question:" in request.until

    def test_training_target_is_the_worked_answer(self, written: DirectorySource) -> None:
        bound = _bind("gsm8k", written)
        doc = bound.parts["expert-train"][0]
        assert bound.example(doc).target == " " + doc.row["answer"]

    def test_a_conversation_needs_a_template(self, written: DirectorySource) -> None:
        bound = _bind("sst2", written, chat_template=True)
        with pytest.raises(ValueError, match="no chat template"):
            bound.requests(bound.eval_docs()[0], 0)

    def test_nothing_is_shared_if_the_template_rewrites_earlier_turns(self, written: DirectorySource) -> None:
        def counting(messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
            return f"{len(messages)}:" + "|".join(message["content"] for message in messages)

        bound = _bind("sst2", written, chat_template=True, shots=2)
        bound.chat = counting
        request = bound.requests(bound.eval_docs()[0], 0)[0]
        assert request.prefix == ""
        assert request.context.startswith("5:")


class TestFewShot:
    def test_an_item_is_never_its_own_example(self, written: DirectorySource) -> None:
        pool = _bind("sst2", written).parts["expert-train"]
        for mode in ("fixed", "per_item"):
            drawing = FewShot("sst2", pool, 3, mode)  # type: ignore[arg-type]
            for doc in pool:
                drawn = drawing.examples(doc, 0)
                assert len(drawn) == 3
                assert doc.id not in {example.id for example in drawn}

    def test_fixed_examples_are_those_of_the_seed(self, written: DirectorySource) -> None:
        bound = _bind("sst2", written, shots=4)
        first, *others = [bound.requests(doc, 0)[0].prefix for doc in bound.eval_docs()]
        assert set(others) == {first}
        assert bound.requests(bound.eval_docs()[0], 1)[0].prefix != first

    def test_pool_order_does_not_matter(self, written: DirectorySource) -> None:
        pool = list(_bind("sst2", written).parts["expert-train"])
        doc = _bind("sst2", written).parts["eval"][0]
        for mode in ("fixed", "per_item"):
            a, b = (FewShot("x", order, 3, mode).examples(doc, 7) for order in (pool, pool[::-1]))  # type: ignore[arg-type]
            assert a == b

    def test_examples_come_from_expert_train(self, written: DirectorySource) -> None:
        bound = _bind("gsm8k", written, shots=3, fewshot="per_item")
        pool = {doc.row["question"] for doc in bound.parts["expert-train"]}
        for doc in bound.eval_docs():
            prefix = bound.requests(doc, 0)[0].prefix
            assert sum(question in prefix for question in pool) == 3


class TestScores:
    @pytest.mark.parametrize(
        ("text", "flexible", "strict"),
        [
            ("She has 40.\n#### 40", 1, 1),
            ("The answer is 40.", 1, 0),
            ("40 apples, no wait, 41", 0, 0),
            ("#### 40 and then 7", 0, 1),
            ("$40.", 1, 0),
            ("none", 0, 0),
            ("", 0, 0),
        ],
    )
    def test_answers_are_extracted_as_lm_eval_does(self, text: str, flexible: int, strict: int) -> None:
        bound = _bind("gsm8k", Listed(train=_gsm8k(1, 2), test=_gsm8k(40)))
        item = bound.score(bound.eval_docs()[0], [text])
        assert {name: item.metrics[name] for name in ("exact_match_flexible", "exact_match_strict")} == {
            "exact_match_flexible": flexible,
            "exact_match_strict": strict,
        }
        assert item.gold == "40"
        if flexible:
            assert "40" in item.prediction

    def test_length_normalisation_decides_acc_norm(self) -> None:
        row = {
            "id": "a",
            "question": "Which?",
            "choices": {"text": ["no", "a much longer one", "x"], "label": ["A", "B", "C"]},
            "answerKey": "B",
        }
        bound = _bind("arc-e", Listed(test=[row] * 8, train=[{**row, "question": "Other?"}] * 3))
        item = bound.score(bound.eval_docs()[0], [(-4.0, False), (-10.0, False), (-5.0, True)])
        assert item.metrics == {"acc_norm": 1.0, "acc": 0.0}
        assert (item.prediction, item.gold) == ("a much longer one", "a much longer one")
        assert bound.chance() == pytest.approx(1 / 3)
        assert bound.majority() == 1.0

    def test_scores_survive_storage(self, written: DirectorySource) -> None:
        bound = _bind("mrpc", written)
        items = [bound.score(doc, [(-1.0, True), (-2.0, False)]) for doc in bound.eval_docs()]
        stored = [json.loads(json.dumps(vars(item))) for item in items]
        again = [type(items[0])(**entry) for entry in stored]
        assert bound.aggregate(again) == bound.aggregate(items)
        assert set(bound.aggregate(items)) == {"acc", "f1"}

    def test_unscored_items_are_left_out(self, written: DirectorySource) -> None:
        bound = _bind("gsm8k", written)
        item = bound.score(bound.eval_docs()[0], [bound.example(bound.eval_docs()[0]).target])
        blank = type(item)("", "", {"exact_match_flexible": None})
        totals = bound.aggregate([item, blank])
        assert totals["exact_match_flexible"] == (1.0, 1)
        assert "bits_per_byte" not in totals
        assert bound.aggregate([blank]) == {}

    def test_bits_per_byte_counts_bytes_of_the_scored_text(self) -> None:
        rows = [{"question": "q", "answer": "né\n#### 1"}]
        bound = _bind("gsm8k", Listed(train=_gsm8k(1, 2), test=rows))
        doc = bound.eval_docs()[0]
        request = bound.gold_request(doc, 0)
        assert request is not None
        assert request.continuation == " né\n#### 1"
        assert bound.gold_bits_per_byte(doc, -11 * math.log(2)) == pytest.approx(1.0)

    def test_choices_have_no_gold_request(self, written: DirectorySource) -> None:
        bound = _bind("sst2", written)
        doc = bound.eval_docs()[0]
        assert bound.gold_request(doc, 0) is None
        with pytest.raises(ValueError, match="bits per byte"):
            bound.gold_bits_per_byte(doc, -1.0)

    def test_boolq_is_not_silently_zero(self, written: DirectorySource) -> None:
        bound = _bind("boolq", written)
        for doc in bound.eval_docs():
            yes = bound.score(doc, [(-9.0, False), (-1.0, True)])
            assert yes.metrics["acc"] == float(doc.row["answer"])
            assert yes.prediction == "yes"


class TestMedical:
    def test_both_layouts_of_medqa_are_read(self) -> None:
        task = registry.create("medqa")
        assert isinstance(task, MedQa)
        endings = {"ending0": "a", "ending1": "b", "ending2": "c", "ending3": "d"}
        row = task.canonical({"id": "1", "sent1": "Q?", "sent2": "", **endings, "label": 2})
        options = {"A": "a", "B": "b", "C": "c", "D": "d"}
        assert row == {"question": "Q?", "answer": "c", "options": options, "answer_idx": "C"}
        assert task.canonical(row) == row
        assert task.gold_answer(row) == "C. c"
        assert task.view(row) == {"sent1": "Q?", **endings, "label": 2}

    def test_five_options_are_another_task(self, written: DirectorySource) -> None:
        bound = _bind("medqa-5opt", written)
        doc = bound.eval_docs()[0]
        requests = bound.requests(doc, 0)
        assert [request.continuation for request in requests] == [" A", " B", " C", " D", " E"]
        assert f"\nE. {doc.row['options']['E']}\nAnswer:" in requests[0].context
        assert bound.chance() == pytest.approx(0.2)
        four = _bind("medqa", written)
        layout = four.requests(four.eval_docs()[0], 0)[0].context
        assert layout.count("\n") + 1 == requests[0].context.count("\n")

    def test_the_authors_split_divides_the_hubs_rows(self, written: DirectorySource) -> None:
        assert len(TEST_IDS) == 500
        rows = written.rows(registry.card("pubmedqa").dataset, "train")
        named = [{**row, "pubid": int(name)} for row, name in zip(rows[:10], sorted(TEST_IDS), strict=False)]
        task = registry.create("pubmedqa")
        assert isinstance(task, PubMedQa)
        bound = task.bind(Listed(train=[*rows[10:], *named]), TaskSettings())
        assert {doc.id for doc in bound.parts["eval"]} == set(sorted(TEST_IDS)[:10])
        assert bound.majority() == pytest.approx(0.4)
        assert task.gold_answer(named[0]) == "yes. It may."


def test_nothing_is_said_on_standard_output(
    written: DirectorySource, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("arc-e", "gsm8k", "cola", "hellaswag", "boolq"):
        bound = _bind(name, written, shots=2)
        bound.requests(bound.eval_docs()[0], 0)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert [record for record in caplog.records if record.name.startswith("lm_eval")] == []


def test_limit_is_the_same_for_every_source(tmp_path: Path, written: DirectorySource) -> None:
    rows = written.rows(registry.card("arc-e").dataset, "test")
    reversed_rows = Listed(train=written.rows(registry.card("arc-e").dataset, "train"), test=rows[::-1])
    a, b = _bind("arc-e", written, limit=9), _bind("arc-e", reversed_rows, limit=9)
    assert [doc.id for doc in a.eval_docs()] == [doc.id for doc in b.eval_docs()]
    assert len(a.parts["eval"]) == 40
