"""Passes over fixed buffers give what ordinary ones give, and hold nothing that a graph cannot."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import harness.bench.accelerator
from harness.bench import captured
from harness.bench.accelerator import accelerator, looped_gradients, looped_logits
from harness.bench.captured import WARM_UP, Prefill, Replay, StaticDecoding
from harness.bench.composed import base_model, pool, routed
from harness.bench.measure import Options, timed
from harness.bench.routing import Decoding, prefill, tokens
from harness.cli import app
from methods.tiny import tiny_llama
from results.ground.errors import HarnessError
from results.ground.loading import model_of


def folder(tmp_path: Path) -> str:
    """A configuration without weights."""
    tiny_llama().config.save_pretrained(tmp_path / "tiny")
    return str(tmp_path / "tiny")


@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize("with_experts", [False, True])
def test_replayed_steps_give_the_tokens_of_ordinary_generation(rows: int, with_experts: bool) -> None:
    model: Any = tiny_llama(dtype=torch.float64)
    composed = routed(model, pool(model, 5, 4)) if with_experts else None
    decoding = StaticDecoding(model, rows, 7, 6, capture=True)
    made = decoding().clone()
    assert torch.equal(made, Decoding(model, rows, 7, 6)())
    prompt = tokens(model, rows, 7)
    text = model.generate(prompt, max_new_tokens=7, do_sample=False, pad_token_id=0, eos_token_id=None)
    assert torch.equal(text[:, 7:], torch.cat([decoding.first, made], 1))
    assert len(set(made.flatten().tolist())) > 1
    assert torch.equal(decoding(), made), "a second call goes on where the first one ended"
    if composed is not None:
        composed.uninstall()
        assert not torch.equal(Decoding(model, rows, 7, 6)(), made), "the experts made no difference"


def test_a_step_writes_into_the_buffers_that_it_reads() -> None:
    model = tiny_llama()
    composed = routed(model, pool(model, 5, 4))
    decoding = StaticDecoding(model, 2, 7, 4, capture=False)
    layers = [tensor for layer in decoding.cache.layers for tensor in (layer.keys, layer.values)]
    counts = [layer.cumulative_length for layer in decoding.cache.layers]
    buffers = [decoding.ids, decoding.position, decoding.column, decoding.made, decoding.logits, *layers, *counts]
    places = [buffer.data_ptr() for buffer in buffers]
    decoding()
    found = [decoding.ids, decoding.position, decoding.column, decoding.made, decoding.logits]
    found += [tensor for layer in decoding.cache.layers for tensor in (layer.keys, layer.values)]
    found += [layer.cumulative_length for layer in decoding.cache.layers]
    assert [buffer.data_ptr() for buffer in found] == places
    composed.uninstall()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_in_a_routed_pass_asks_what_a_tensor_holds(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tensors on the meta device hold nothing: whoever waits for one, as for a GPU's, is refused.
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)
    with torch.device("meta"):
        model = model_of(tiny_llama().config).to(dtype).eval().requires_grad_(False)
    composed = routed(model, pool(model, 5, 4))
    decoding = StaticDecoding(model, 2, 7, 4, capture=False)
    assert decoding().shape == (2, 4)
    with pytest.raises(RuntimeError, match="meta"):
        composed.context.past_length  # noqa: B018
    assert Prefill(model, 2, 7, capture=False)().device.type == "meta"
    composed.uninstall()


def test_a_static_cache_is_counted_before_the_pass() -> None:
    model = tiny_llama()
    composed = routed(model, pool(model, 5, 4))
    decoding = StaticDecoding(model, 2, 7, 4, capture=False)
    assert composed.context.past_length == 0
    for step in range(3):
        decoding.step()
        assert composed.context.past_length == 7 + step
    model(input_ids=decoding.ids, past_key_values=decoding.cache, use_cache=True)
    assert composed.context.position_ids is not None
    assert (composed.context.past_length, composed.context.position_ids.tolist()) == (10, [[10]])
    composed.uninstall()


def test_prefill_gives_the_logits_of_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_llama()
    experts = pool(model, 5, 4)
    for name, size in (("ROWS", 2), ("TRAINED", 2), ("LENGTH", 16), ("TARGETS", 4)):
        monkeypatch.setattr(harness.bench.accelerator, name, size)
    loop = looped_logits(model, experts)
    assert len(looped_gradients(model, experts)) == 8
    composed = routed(model, experts)
    assert torch.equal(Prefill(model, 2, 16, capture=True)(), prefill(model, tokens(model, 2, 16))[:, -1])
    torch.testing.assert_close(Prefill(model, 2, 16, capture=False)(), loop)
    composed.uninstall()


def test_work_is_captured_once_it_has_run(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    class Recorded:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> None:
            order.append(f"{self.name} begins")

        def __exit__(self, *error: object) -> None:
            order.append(f"{self.name} ends")

        def wait_stream(self, other: object) -> None:
            order.append(f"{self.name} waits")

    graph = SimpleNamespace(replay=lambda: order.append("replay"))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Recorded("side"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Recorded("main"))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream: Recorded("capture"))
    again = Replay(lambda: order.append("work"), torch.device("cuda"))
    warm = ["side waits", "side begins", *["work"] * WARM_UP, "side ends", "main waits"]
    assert order == [*warm, "capture begins", "work", "capture ends"]
    del order[:]
    again()
    again()
    assert order == ["replay", "replay"]


def test_a_device_has_finished_when_the_clock_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: order.append(f"wait for {device}"))

    def clock() -> float:
        order.append("clock")
        return 0.0

    monkeypatch.setattr("harness.bench.measure.CLOCKS", {"wall": clock})
    timed(lambda: order.append("work"), "wall", "cuda:0")
    assert order == ["wait for cuda:0", "clock", "work", "wait for cuda:0", "clock"]
    del order[:]
    timed(lambda: order.append("work"))
    assert order == ["clock", "work", "clock"]


def test_all_rows_are_measured_and_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("ROWS", 2), ("TRAINED", 2), ("LENGTH", 16), ("TARGETS", 4), ("PROMPT", 8), ("STEPS", 4)):
        monkeypatch.setattr(harness.bench.accelerator, name, size)
    options = Options(model=folder(tmp_path), random_weights=True, repetitions=1)
    rows = {row.name: row for row in accelerator(options)}
    assert [row.target for row in rows.values()] == [1.1, 1.3, None, None, 1.15, 1.15, 1.1]
    assert all(row.kind == "overhead" and row.limit is not None and row.limit > 1 for row in rows.values())
    same = "of 32 tokens 32 are those of ordinary decoding (base: 32), and 32 those of steps without a graph (base: 32)"
    assert rows["decoding, batch 8, captured graph"].agreement == same
    assert "equal to the bit without a graph: True" in rows["prefill 4x512, captured graph"].agreement
    assert "0.0e+00" not in rows["step of router training against one LoRA's"].agreement


def test_the_command_stores_device_type_and_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("ROWS", 2), ("LENGTH", 16), ("PROMPT", 8), ("STEPS", 4)):
        monkeypatch.setattr(harness.bench.accelerator, name, size)
    given = ["--model", folder(tmp_path), "--random-weights", "--repetitions", "1", "--only", "batch 1", "--json"]
    file = tmp_path / "figures.json"
    result = CliRunner().invoke(app, ["bench", "accelerator", *given, "--dtype", "bfloat16", "--output", str(file)])
    assert result.exit_code == 0, result.output
    found = json.loads(file.read_text())
    assert found == json.loads(result.output)
    assert [found[key] for key in ("device", "dtype", "weights")] == ["cpu", "bfloat16", "random"]
    assert found["machine"]["float32 products"] == "highest"
    assert len(found["rows"]) == 2


@pytest.mark.parametrize("option", [["--device", "auto"], ["--dtype", "bfloat16"], ["--random-weights"]])
def test_benchmarks_of_the_processor_take_no_device(option: list[str]) -> None:
    result = CliRunner().invoke(app, ["bench", "startup", *option])
    assert isinstance(result.exception, HarnessError)
    assert str(result.exception).startswith(f"{option[0]}: the benchmark startup measures on the processor")


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(app, ["bench", "accelerator", "--device", "meta"])
    assert "'meta' is not available here" in str(result.exception)
    monkeypatch.setattr("harness.models.resolve_device", lambda name: "cuda:0")
    result = CliRunner().invoke(app, ["bench", "accelerator", "--device", "auto", "--clock", "cpu"])
    assert str(result.exception).startswith("--clock: ")


def test_random_weights_need_a_configuration_alone(tmp_path: Path) -> None:
    base = base_model(Options(model=folder(tmp_path), random_weights=True, dtype="bfloat16"))
    parameters = list(base.model.parameters())
    assert {p.dtype for p in parameters} == {torch.bfloat16}
    assert not any(p.requires_grad for p in parameters)
    assert captured.Prefill(base.model, 1, 4, capture=False)().isfinite().all()
