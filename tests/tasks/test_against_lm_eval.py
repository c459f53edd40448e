"""What the model is sent, and what its answers score, is what lm-evaluation-harness itself would send and score.

The reference is lm-eval's task built from its untouched file over a real `datasets.Dataset`; only the few-shot examples
are prescribed, since lm-eval draws them by order.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import datasets
import lm_eval
import pytest
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from tasks import registry
from tasks.base import Doc, TaskSettings
from tasks.lm_eval_task import LmEvalBound, LmEvalTask
from tasks.sources import DirectorySource


class Reference:
    """lm-eval's own task over the eval and training rows of a bound task."""

    def __init__(self, bound: LmEvalBound) -> None:
        card = bound.task.card
        assert card.lm_eval is not None
        config = load_yaml(Path(lm_eval.__file__).parent / "tasks" / card.lm_eval.file)
        docs = [*bound.parts["eval"], *bound.parts["expert-train"]]
        rows = datasets.Dataset.from_list([bound.task.view(dict(doc.row)) for doc in docs])
        config |= {"training_split": None, "validation_split": None, "test_split": "rows", "fewshot_split": None}
        config |= {"custom_dataset": lambda **_: {"rows": rows}, "dataset_kwargs": None, "metadata": None}
        self.task = ConfigurableTask(config=config)
        self.views = dict(zip([doc.id for doc in docs], self.task.eval_docs, strict=True))

    def context(self, doc: Doc, examples: list[Doc], **chat: Any) -> str:
        shots = [self.views[example.id] for example in examples]
        self.task.sampler.sample = lambda n, **_: shots
        return self.task.fewshot_context(self.views[doc.id], len(shots), **chat)


def _bound(name: str, source: DirectorySource, **settings: Any) -> LmEvalBound:
    task = registry.create(name)
    assert isinstance(task, LmEvalTask)
    return task.bind(source, TaskSettings(**settings))


def _of_lm_eval(name: str) -> bool:
    """Whether a task uses lm-eval's file as it is."""
    task = registry.create(name)
    return isinstance(task, LmEvalTask) and type(task).config is LmEvalTask.config


@pytest.mark.parametrize("name", [name for name in registry.names() if _of_lm_eval(name)])
class TestAgainstLmEval:
    @pytest.mark.parametrize("mode", ["fixed", "per_item"])
    @pytest.mark.parametrize("shots", [0, 3])
    def test_requests(self, name: str, shots: int, mode: str, written: DirectorySource) -> None:
        bound = _bound(name, written, shots=shots, fewshot=mode)
        reference = Reference(bound)
        for doc in bound.eval_docs()[:12]:
            examples = bound._fewshot.examples(doc, 0)
            assert len(examples) == shots
            context = reference.context(doc, examples)
            expected = reference.task.construct_requests(reference.views[doc.id], context, metadata=(name, 0, 1))
            actual = bound.requests(doc, 0)
            if bound.generative:
                assert actual[0].prefix + actual[0].context == expected.args[0]
                assert list(actual[0].until) == expected.args[1]["until"]
            else:
                assert [(r.prefix + r.context, r.continuation) for r in actual] == [e.args for e in expected]

    def test_conversations(self, name: str, written: DirectorySource) -> None:
        def chat(messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
            turns = [f"<{message['role']}>{message['content']}" for message in messages]
            return "".join(turns) + ("<assistant>" if add_generation_prompt else "")

        bound = _bound(name, written, shots=2, chat_template=True)
        bound.chat = chat
        reference = Reference(bound)
        arguments = {"apply_chat_template": True, "fewshot_as_multiturn": True, "chat_template": chat}
        for doc in bound.eval_docs()[:5]:
            context = reference.context(doc, bound._fewshot.examples(doc, 0), **arguments)
            request = bound.requests(doc, 0)[0]
            assert request.prefix + request.context == context
            assert request.prefix
            assert request.context.startswith("<user>")
            if not bound.generative:
                view = reference.views[doc.id]
                expected = reference.task.construct_requests(view, context, apply_chat_template=True)
                assert [r.continuation for r in bound.requests(doc, 0)] == [e.args[1] for e in expected]
            assert bound.example(doc).prompt == reference.context(doc, [], **arguments)

    def test_scores(self, name: str, written: DirectorySource) -> None:
        bound = _bound(name, written)
        reference = Reference(bound)
        if bound.generative:
            self.compare_texts(bound, reference)
            return
        generator = random.Random(0)
        items, expected = [], []
        for doc in bound.eval_docs():
            outputs = [(-30 * generator.random(), False) for _ in bound.requests(doc, 0)]
            items.append(bound.score(doc, outputs))
            expected.append(reference.task.process_results(reference.views[doc.id], outputs))
        totals = bound.aggregate(items)
        assert set(totals) == {info.name for info in bound.metrics}
        assert set(totals) - set(reference.task.aggregation()) <= {"acc"}
        for metric, function in reference.task.aggregation().items():
            value = pytest.approx(function([each[metric] for each in expected]))
            # Where the choices are letters, lm-eval's acc_norm is acc under another name and left out here.
            assert totals.get(metric, totals["acc"]) == (value, len(items))
        accuracy = sum(item.prediction == item.gold for item in items) / len(items)
        assert totals[bound.primary][0] == pytest.approx(accuracy)

    def compare_texts(self, bound: LmEvalBound, reference: Reference) -> None:
        texts = ["#### 5", "It is 7.", "no number", "", "2 then $1,005.", "x #### 41\n#### 3", "-4", "#### 1,000."]
        for doc in bound.eval_docs():
            for text in [*texts, bound.example(doc).target]:
                view = reference.views[doc.id]
                instance = reference.task.construct_requests(view, "", metadata=(bound.name, 0, 1))
                instance.resps = [text]
                reference.task._instances = [instance]
                reference.task.apply_filters()
                expected = {
                    name.partition("-")[0]: reference.task.process_results(view, [answer])["exact_match"]
                    for name, answer in instance.filtered_resps.items()
                }
                actual = dict(bound.score(doc, [text]).metrics)
                assert actual.pop("exact_match_numeric") in (0.0, 1.0)  # ours alone; see tests/tasks/answers
                assert actual == {f"exact_match_{name}": value for name, value in expected.items()}
