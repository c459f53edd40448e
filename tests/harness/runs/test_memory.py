"""Where memory does not suffice a run goes on in smaller pieces, with equal results, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel

from harness.failures import in_less_memory, out_of_memory
from harness.training.cutting import cuttable, draws
from methods import conformance
from methods.base import Composed
from methods.routing.context import RoutingContext
from results.store import RunFolder
from tests.harness.runs.command import TINY, call

system = [pytest.mark.assets, pytest.mark.model]

SHORT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to ..."),
]


@pytest.mark.parametrize("error", SHORT, ids=lambda error: type(error).__name__)
def test_sizes_are_halved_until_memory_suffices(error: Exception) -> None:
    tried = []

    def compute(size: int) -> str:
        tried.append(size)
        if size > 2:
            raise error
        return "done"

    assert in_less_memory(compute, 12) == ("done", 1)
    assert tried == [12, 6, 3, 1]
    with pytest.raises(type(error)):
        in_less_memory(compute, 12, least=3)
    with pytest.raises(type(error)):
        in_less_memory(compute, 12, may=lambda: False)


def test_nothing_else_is_tried_twice() -> None:
    assert not out_of_memory(ValueError("out of memory"))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    tried = []

    def compute(size: int) -> None:
        tried.append(size)
        raise RuntimeError("shapes")

    with pytest.raises(RuntimeError, match="shapes"):
        in_less_memory(compute, 8)
    assert tried == [8]


def llama(**changes: Any) -> LlamaForCausalLM:
    sizes = {"vocab_size": 16, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=1, **changes))


def test_what_is_drawn_for_each_micro_batch_may_not_be_cut() -> None:
    composed = Composed(llama(), RoutingContext(), [])
    assert cuttable(composed)
    composed.stats_scope = "ema"
    assert cuttable(composed)
    composed.stats_scope = "microbatch"
    assert not cuttable(composed)
    assert not cuttable(conformance.Subject("mixer", {"route.jitter": 0.1}).install())
    assert cuttable(conformance.Subject("mixer").install())
    assert draws(llama(attention_dropout=0.1))
    assert draws(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)))
    assert not draws(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0)))


@contextmanager
def memory(training: int, evaluating: int) -> Iterator[list[int]]:
    """Passes of the tiny model over more tokens than these run out of memory; yields the sizes that were tried."""
    genuine, sizes = LlamaModel.forward, []

    def forward(self: LlamaModel, *arguments: Any, **named: Any) -> Any:
        given = named.get("input_ids", named.get("inputs_embeds"))
        size = given.shape[0] * given.shape[1] if given is not None else 0
        sizes.append(size)
        if size > (training if torch.is_grad_enabled() else evaluating):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return genuine(self, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LlamaModel, "forward", forward)
        yield sizes


class TestRuns:
    """Whole runs of a tiny model."""

    pytestmark = system

    def test_results_are_equal_and_the_record_says_what_was_done(
        self, home: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
        with memory(training=200, evaluating=100) as sizes:
            code = call("run", "--methods", "mixer", "--tasks", "sst2", *TINY, "--model", str(tiny_model),
                        "--output", str(tmp_path / "run"))  # fmt: skip
        assert code == 0
        assert max(sizes) > 200
        (record,) = RunFolder.open(tmp_path / "run").records()
        (before,) = (one for one in RunFolder.open(home / "run").records() if one.cell == record.cell)
        said = " ".join(record.notes)
        assert "was trained in micro-batches of" in said
        assert "mixer: fitted in micro-batches of at most" in said
        assert "mixer on sst2: evaluated in passes of" in said
        assert record.metrics.keys() == before.metrics.keys()
        for name, metric in record.metrics.items():
            assert metric.value == pytest.approx(before.metrics[name].value, abs=1e-4), name
        made = list((tmp_path / "stages" / "composed").iterdir())
        assert made
        for folder in (home / "stages" / "composed" / one.name for one in made):  # others are other tests'
            for key, value in load_file(folder / "composed.safetensors").items():
                own = load_file(tmp_path / "stages" / "composed" / folder.name / "composed.safetensors")[key]
                torch.testing.assert_close(own, value, rtol=1e-3, atol=1e-4)

    def test_at_one_row_it_is_a_failure_of_its_own_cell(
        self, home: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import shutil

        from methods.mixer import Mixer

        tried = []

        def too_large(self: Mixer, composed: Any, session: Any) -> None:
            tried.append(session.sequences)
            raise torch.OutOfMemoryError("CUDA out of memory")

        shutil.copytree(home / "stages" / "expert", tmp_path / "stages" / "expert")
        monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
        monkeypatch.setattr(Mixer, "fit", too_large)
        assert call("run", "--methods", "mixer,base", "--tasks", "sst2", *TINY, "--model", str(tiny_model),
                    "--output", str(tmp_path / "run")) == 1  # fmt: skip
        assert tried == [4, 2, 1]
        states = {record.spec.method: record for record in RunFolder.open(tmp_path / "run").records()}
        assert states["base"].status == "done"
        assert states["mixer"].error == "OutOfMemoryError: CUDA out of memory"
