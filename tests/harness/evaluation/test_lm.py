"""Requests of tasks, sampling, progress, mistakes, and what routed layers are shown."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from harness.evaluation.lm import EvaluationLM
from harness.evaluation.sampling import Sampling, next_tokens
from harness.evaluation.stopping import Stops
from results.ground.errors import HarnessError
from tasks.base import Request

from .conftest import text
from .test_against_hflm import instances


def requests(rng: random.Random) -> list[Request]:
    shots = text(rng, 30) + "\n\n"
    found = []
    for i in range(5):
        question = text(rng, 4)
        found += [Request("loglikelihood", shots, question, f" {choice}") for choice in ("cat", "red dog", "mat")]
        found.append(Request("generate", shots, question, until=("\n",), max_new_tokens=6 + i))
    rng.shuffle(found)
    return found


def test_requests_of_both_kinds_keep_their_order(tiny: Any, tokenizer: Any) -> None:
    lm, asked = EvaluationLM(tiny("llama"), tokenizer), requests(random.Random(1))
    outputs = lm.score(asked)
    for request, output in zip(asked, outputs, strict=True):
        prompt = request.prefix + request.context
        if request.kind == "loglikelihood":
            (alone,) = lm.loglikelihood(instances("loglikelihood", [(prompt, request.continuation)]))
            assert output.loglikelihood == pytest.approx(alone[0], abs=1e-9)
            assert output.is_greedy == alone[1]
        else:
            settings = {"until": list(request.until), "max_gen_toks": request.max_new_tokens}
            assert output == lm.generate_until(instances("generate_until", [(prompt, settings)]))


@pytest.mark.parametrize("limits", [{"batch_tokens": 40}, {"batch_rows": 1}, {"cache_bytes": 1}, {"path": "plain"}])
def test_results_do_not_depend_on_batches(limits: dict[str, Any], tiny: Any, tokenizer: Any) -> None:
    model, asked = tiny("qwen2"), requests(random.Random(2))
    for one, other in zip(
        EvaluationLM(model, tokenizer).score(asked), EvaluationLM(model, tokenizer, **limits).score(asked), strict=True
    ):
        assert one == other if isinstance(one, list) else one == pytest.approx(other, abs=1e-9)


@pytest.mark.parametrize("path", ["shared", "plain"])
def test_samples_follow_from_seed_and_prompt_alone(path: Any, tiny: Any, tokenizer: Any) -> None:
    model, rng = tiny("llama"), random.Random(3)
    asked = [
        Request("generate", "", text(rng, 5), until=("\n",), max_new_tokens=8, temperature=0.8, samples=3)
        for _ in range(3)
    ]
    together = EvaluationLM(model, tokenizer).score(asked)
    alone = [EvaluationLM(model, tokenizer, path=path, batch_rows=1).score([request])[0] for request in asked]
    assert together == alone
    assert all(len(texts) == 3 for texts in together)
    assert len({own for texts in together for own in texts}) > 4
    assert EvaluationLM(model, tokenizer, seed=1).score(asked) != together


def test_greedy_samples_are_copies(tiny: Any, tokenizer: Any) -> None:
    request = Request("generate", "", "the cat", until=("\n",), max_new_tokens=4, samples=3)
    (texts,) = EvaluationLM(tiny("llama"), tokenizer).score([request])
    assert len(texts) == 3
    assert len(set(texts)) == 1


def test_draws_have_the_softmax_distribution() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0, -1.0]])
    expected = (logits[0] / 0.7).softmax(-1)
    drawn = [next_tokens(logits, [Sampling(0.7, seed)], [5])[0] for seed in range(4000)]
    counts = torch.bincount(torch.tensor(drawn), minlength=4) / 4000
    assert torch.allclose(counts, expected, atol=0.03)


@pytest.mark.parametrize(
    ("settings", "allowed"), [({"top_k": 2}, {0, 2}), ({"top_p": 0.8}, {0, 2}), ({"top_p": 0.1}, {0})]
)
def test_draws_are_cut(settings: dict[str, Any], allowed: set[int]) -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0, -1.0]])  # probabilities 0.64, 0.09, 0.24, 0.03
    drawn = {next_tokens(logits, [Sampling(1.0, seed, **settings)], [0])[0] for seed in range(300)}
    assert drawn == allowed


def test_progress_counts_requests(tiny: Any, tokenizer: Any) -> None:
    seen: list[tuple[int, int]] = []
    sampled = Request("generate", "", "a mat", until=(), max_new_tokens=5, temperature=1.0, samples=4)
    asked = [*requests(random.Random(4)), sampled]
    EvaluationLM(tiny("llama"), tokenizer, on_progress=lambda done, of: seen.append((done, of))).score(asked)
    assert {of for _, of in seen} == {len(asked)}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == len(asked)


def test_shared_tokens_are_computed_once(tiny: Any, tokenizer: Any) -> None:
    lm = EvaluationLM(tiny("llama"), tokenizer)
    shots = text(random.Random(5), 60)
    asked = [(f"{shots}\n{i} cat", f" {word}") for i in range(20) for word in ("sat", "ran", "fell")]
    lm.loglikelihood(instances("loglikelihood", asked))
    encoded = lm.encoder.pairs(asked)
    distinct = len({tuple(own.inputs[: i + 1]) for own in encoded for i in range(len(own.inputs))})
    assert lm.tokens["evaluation_input"] == sum(len(own.inputs) for own in encoded)
    assert lm.tokens["evaluation_computed"] == distinct


def test_finished_rows_leave_the_batch(tiny: Any, tokenizer: Any) -> None:
    """Decoding computes a row's own steps and no more, however long its neighbours go on."""
    lm = EvaluationLM(tiny("llama"), tokenizer)
    lengths = [1, 2, 3, 30]
    settings = [{"until": [], "max_gen_toks": length} for length in lengths]
    lm.generate_until(instances("generate_until", [("the red dog", own) for own in settings]))
    prompt = len(lm.encoder.encode(["the red dog"])[0])
    generated = lm.tokens["evaluation_generated"]
    assert lm.tokens["evaluation_computed"] == prompt - 1 + len(lengths) + generated - len(lengths)


def test_computed_tokens_of_one_generation(tiny: Any, tokenizer: Any) -> None:
    model = tiny("llama")
    asked = instances("generate_until", [("the red dog", {"until": [], "max_gen_toks": 6})])
    found = []
    for changes in ({}, {"path": "plain"}, {"kv_cache": False}):
        lm = EvaluationLM(model, tokenizer, **changes)  # type: ignore[arg-type]
        lm.generate_until(asked)
        found.append(lm.tokens)
    prompt, made = found[0]["evaluation_input"], found[0]["evaluation_generated"]
    assert made == 6
    assert [own["evaluation_computed"] for own in found] == [
        prompt + made - 1,
        prompt + made - 1,
        sum(prompt + step for step in range(made)),
    ]


def test_routed_layers_are_shown_every_token_once(tiny: Any, tokenizer: Any) -> None:
    """The last columns of the attention mask, which routed layers count, are the tokens of the pass."""
    model, counted = tiny("llama"), 0

    def count(_module: Any, _args: Any, kwargs: dict[str, Any]) -> None:
        nonlocal counted
        ids, mask = kwargs["input_ids"], kwargs["attention_mask"]
        assert mask.shape == (ids.shape[0], kwargs["past_key_values"].get_seq_length() + ids.shape[1])
        counted += int(mask[:, -ids.shape[1] :].sum())

    lm = EvaluationLM(model, tokenizer)
    assert lm.path == "shared"
    model.model.register_forward_pre_hook(count, with_kwargs=True)
    lm.score(requests(random.Random(6)))
    assert counted == lm.tokens["evaluation_computed"]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("loglikelihood", "", "the cat", ""), "has no tokens"),
        (Request("loglikelihood", "", "the cat", " a" * 400), r"' a a a.*' of 400 tokens exceeds the model's 256"),
        (Request("generate", "", "the cat", max_new_tokens=256), "give 1 to 255"),
        (Request("generate", "", "the cat", max_new_tokens=0), "give 1 to 255"),
    ],
)
def test_impossible_requests_say_what_to_do(request_: Request, message: str, tiny: Any, tokenizer: Any) -> None:
    with pytest.raises(HarnessError, match=message):
        EvaluationLM(tiny("llama"), tokenizer).score([request_])


def test_unknown_generation_settings_are_refused(tiny: Any, tokenizer: Any) -> None:
    asked = instances("generate_until", [("the cat", {"until": ["\n"], "max_gen_toks": 5, "num_beams": 4})])
    with pytest.raises(HarnessError, match="'num_beams' is not supported"):
        EvaluationLM(tiny("llama"), tokenizer).generate_until(asked)


def test_stop_strings_across_tokens(tokenizer: Any) -> None:
    stops = Stops(tokenizer, [1])
    row = tokenizer.encode("the cat sat on a mat", add_special_tokens=False)
    shown = [stops.finished([row[: i + 1]], [["at sat"]])[0] for i in range(len(row))]
    decoded = [tokenizer.decode(row[: i + 1]) for i in range(len(row))]
    first = next(i for i, own in enumerate(decoded) if "at sat" in own)
    assert shown.index(True) == first
    assert stops.text(row, ["at sat", "zz"]) == "the c"
    assert stops.finished([[5, 1], [5, 6]], [[], []]) == [True, False]


def test_lm_eval_runs_a_task_on_it(tiny: Any, tokenizer: Any, tmp_path: Any) -> None:
    import json

    from lm_eval.api.task import ConfigurableTask
    from lm_eval.evaluator import evaluate

    rows = [{"q": text(random.Random(i), 4), "a": i % 2} for i in range(6)]
    (tmp_path / "test.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    task = ConfigurableTask(
        config={
            "task": "toy",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(tmp_path / "test.jsonl")}, "cache_dir": str(tmp_path)},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{q}}",
            "doc_to_choice": ["cat", "dog"],
            "doc_to_target": "a",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
    )
    lm = EvaluationLM(tiny("llama"), tokenizer)
    results = evaluate(lm, {"toy": task}, bootstrap_iters=0)
    assert 0.0 <= results["results"]["toy"]["acc,none"] <= 1.0
    assert len(results["samples"]["toy"]) == 6
