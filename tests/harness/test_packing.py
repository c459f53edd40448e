"""Packed training is padded training without the padding."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import harness.training.packing
from harness.models import BaseModel
from harness.planning.sections import ExpertsSection
from harness.training.data import Encoded, collate, laid, micro_batches
from harness.training.experts import train_expert, trainable_lora
from harness.training.loop import window_backward
from harness.training.packing import packable, packed_batches, packed_logits, packing_passes
from methods.tiny import TARGETS, VOCABULARY, tiny_llama, tiny_model


def rows(n: int = 9) -> list[Encoded]:
    """Ragged rows; the first is all target, the second one target token long."""
    draw = torch.Generator().manual_seed(0)
    made = []
    for index in range(n):
        length = int(torch.randint(4, 30, (1,), generator=draw))
        ids = tuple(torch.randint(3, VOCABULARY, (length,), generator=draw).tolist())
        made.append(Encoded(f"{index}", "t", 0, ids, length if index == 0 else 1 + index % 3))
    return made


def tiny_base(dtype: torch.dtype = torch.float64, **config: Any) -> BaseModel:
    model = tiny_llama(dtype=dtype)
    for key, value in config.items():
        setattr(model.config, key, value)
    tokenizer: Any = SimpleNamespace(pad_token_id=0, eos_token_id=2, decode=lambda ids, **_: " ".join(map(str, ids)))
    return BaseModel("tiny", "0", "tiny", model, tokenizer)


def section(**changes: Any) -> ExpertsSection:
    settings = {"names": ("t",), "rank": 4, "target_modules": TARGETS, "lr": 1e-2, "batch_size": 4}
    return ExpertsSection.model_validate({**settings, "micro_batch_size": 4, "epochs": 3, **changes})


def test_the_gradient_is_that_of_the_padded_batch() -> None:
    base = tiny_base()
    passes = packing_passes(base.model, rows())
    assert packable(base)
    assert passes is not None
    with trainable_lora(base, section(), 0) as (composed, _save):
        parameters = list(composed.groups()["experts"].values())
        for parameter in parameters:
            torch.nn.init.normal_(parameter, std=0.3)
        found = []
        for size in (3, 9):
            for packed in (False, True):
                for parameter in parameters:
                    parameter.grad = None
                if packed:
                    window = [laid(part) for part in packed_batches(rows(), size, tokens=40)]
                else:
                    window = [collate(part, 0) for part in micro_batches(rows(), size, by_length=True)]
                packing = passes if packed else None
                terms = window_backward(composed, base.model, window, lambda loss: loss.backward(), packing=packing)
                gradient = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
                found.append((terms["loss"], gradient))
    assert found[0][1].abs().max() > 1e-3
    for loss, gradient in found[1:]:
        assert loss == pytest.approx(found[0][0], abs=1e-12)
        torch.testing.assert_close(gradient, found[0][1], rtol=0, atol=1e-13)


def test_an_expert_is_the_same_with_and_without_packing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []

    def counted(*args: Any) -> tuple[torch.Tensor, torch.Tensor]:
        used.append(1)
        return packed_logits(*args)

    monkeypatch.setattr("harness.training.loop.packed_logits", counted)
    base = tiny_base(torch.float32)
    logs = []
    for name, attention_dropout in (("packed", 0.0), ("padded", 1e-9)):
        base.model.config.attention_dropout = attention_dropout  # not read after construction, so nothing is dropped
        log = train_expert(base, rows(), section(), name="t", seed=0, folder=tmp_path / name)
        logs.append([step["loss"] for step in log.steps])
        assert len(used) == len(log.steps)
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)
    packed, padded = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("packed", "padded"))
    for key, value in packed.items():
        torch.testing.assert_close(value, padded[key], rtol=0, atol=1e-4)


def test_batches_hold_every_row_once_and_stay_within_both_limits() -> None:
    pool = rows(30)
    for size, tokens in ((4, 1000), (30, 60), (1, 60)):
        batches = packed_batches(pool, size, tokens)
        assert sorted(row.id for batch in batches for row in batch) == sorted(row.id for row in pool)
        assert max(map(len, batches)) <= size
        longest = max(map(len, pool))
        assert max(sum(map(len, batch)) for batch in batches) <= 1.5 * tokens + longest


@pytest.mark.parametrize("config", [{"attention_dropout": 0.1}, {"model_type": "mamba", "is_encoder_decoder": True}])
def test_models_that_see_more_than_a_rows_own_tokens_are_padded(config: dict[str, Any]) -> None:
    assert packable(tiny_base())
    assert not packable(tiny_base(**config))


def test_rows_longer_than_a_window_of_attention_are_padded() -> None:
    """Beyond it a sequence does not see all of itself, which packed attention would."""
    model, ids = tiny_model("mistral"), tuple(range(3, 10))
    window = model.config.sliding_window
    for length, packed in ((window, True), (window + 1, False)):
        assert (packing_passes(model, [Encoded("0", "t", 0, ids[:length], 1)]) is not None) == packed


def test_a_model_that_deviates_is_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.training.packing, "deviation", lambda model, tokenizer: "log-likelihoods differ")
    assert not packable(tiny_base())


def test_dropout_is_padded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.training.loop.packed_logits", lambda *args: pytest.fail("packed"))
    train_expert(tiny_base(), rows(), section(lora_dropout=0.1), name="t", seed=0, folder=tmp_path / "e")
