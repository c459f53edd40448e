"""The whole engine on a tiny T5: choices and generation, trained experts, routers and a search, and its adapters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from results.store import RunFolder
from tests.harness.runs.command import printed
from tests.harness.tiny import WORDS, save

pytestmark = [pytest.mark.assets, pytest.mark.model]

METHODS = ("base", "lora", "uniform", "mixer", "lorahub")


@pytest.fixture(scope="module")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory, smollm_path: Path) -> Path:
    """Folder of a random T5 with the bundled model's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    folder = tmp_path_factory.mktemp("tiny") / "tiny-t5"
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "t5", vocab_size=WORDS, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_decoder_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu", pad_token_id=0, eos_token_id=2, decoder_start_token_id=0,
    )  # fmt: skip
    return save(AutoModelForSeq2SeqLM.from_config(config), folder, smollm_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_t5: Path) -> Path:
    folder = tmp_path_factory.mktemp("run")
    done = printed(
        "run", "--methods", ",".join(METHODS), "--preset", "smoke", "--tasks", "sst2,gsm8k", "--limit", "4",
        "--model", str(tiny_t5), "--output", str(folder / "run"),
        "--set", "experts.names=[sst2,mrpc,gsm8k]", "--set", "experts.target_modules=[q,v]",
        "--set", "eval.generative_limit=2", "--set", "eval.max_new_tokens=4",
        "--set", "experts.tokens=300", "--set", "routers.tokens=300",
        "--set", "methods.lorahub.budget=5", "--set", "methods.lorahub.examples=2",
        stages=folder / "stages",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_every_cell_is_done(finished: Path) -> None:
    run = RunFolder.open(finished / "run")
    records = run.records()
    assert {(record.spec.method_name, record.spec.task, record.status) for record in records} == {
        (method, task, "done") for method in METHODS for task in ("sst2", "gsm8k")
    }
    assert run.verify() == []
    for record in records:
        assert record.metrics[record.primary].n == (4 if record.spec.task == "sst2" else 2)
        if record.spec.task == "gsm8k":
            assert all(item.metrics["bits_per_byte"] > 0 for item in run.items(record.cell))
    mixed = next(record for record in records if record.spec.method_name == "mixer")
    assert mixed.routing is not None
    # q and v of three modules in two layers, three experts, width 32.
    assert len(mixed.routing.modules) == 12
    assert sum(mixed.parameters.trainable.values()) == 12 * 3 * 32
    assert mixed.routing.logit_shift > 0


def test_experts_are_seq2seq_adapters_that_peft_loads(finished: Path, tiny_t5: Path) -> None:
    """Ours give what peft gives with them, and outside experts of that kind are read."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSeq2SeqLM

    from methods import registry
    from methods.experts import load_expert

    folder = next((finished / "stages" / "expert").iterdir())
    raw = json.loads((folder / "adapter_config.json").read_text())
    assert raw["task_type"] == "SEQ_2_SEQ_LM"
    ids = torch.arange(3, 12).unsqueeze(0)
    given = {"input_ids": ids, "decoder_input_ids": ids[:, :4]}
    with torch.no_grad():
        base = AutoModelForSeq2SeqLM.from_pretrained(tiny_t5).eval()
        plain = base(**given).logits
        composed = registry.create("uniform").install(base, [load_expert("one", folder)], seed=0)
        assert len(composed.sites) == 12
        ours = base(**given).logits
        composed.uninstall()
        peft = PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(tiny_t5), str(folder)).eval()
        theirs = peft(**given).logits
    assert (ours - plain).abs().max() > 1e-6
    assert torch.allclose(ours, theirs, atol=1e-5)
