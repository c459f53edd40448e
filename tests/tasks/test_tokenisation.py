"""Training and evaluation see one tokenisation: of every task, with a template or without, and never two BOS."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from harness.evaluation.encode import Encoder
from harness.training.data import encode
from tasks import registry
from tasks.base import BoundTask, TaskSettings, TaskUnavailable
from tasks.sources import DirectorySource

BOS, EOS = "<s>", "</s>"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message.role }}]{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def byte_tokenizer(*, adds_bos: bool) -> PreTrainedTokenizerFast:
    """One token a byte; with `adds_bos` as Llama 3's and Gemma's: BOS before every text."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    own = Tokenizer(models.BPE(vocab={letter: i + 2 for i, letter in enumerate(letters)} | {BOS: 0, EOS: 1}, merges=[]))
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = decoders.ByteLevel()
    if adds_bos:
        own.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=own, bos_token=BOS, eos_token=EOS, chat_template=TEMPLATE)


def chat(tokenizer: Any) -> Any:
    def render(messages: list[dict[str, str]], /, *, add_generation_prompt: bool) -> str:
        return str(
            tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    return render


def evaluated(tokenizer: Any, task: BoundTask, doc: Any) -> list[list[int]]:
    """Token ids of each request of an item as they are fed: context and continuation, or a prompt."""
    encoder = Encoder(tokenizer, backend="causal", max_length=100_000)
    found = []
    for request in task.requests(doc, 0):
        context = request.prefix + request.context
        if request.kind == "generate":
            ((ids, _),) = encoder.prompts([context], [100_000])
            found.append(ids)
        else:
            (scored,) = encoder.pairs([(context, request.continuation)])
            found.append([*scored.context, *scored.targets])
    return found


@pytest.mark.parametrize("adds_bos", [False, True])
@pytest.mark.parametrize("template", [False, True])
@pytest.mark.parametrize("name", registry.names())
def test_training_rows_are_encoded_as_they_are_evaluated(
    name: str, template: bool, adds_bos: bool, written: DirectorySource
) -> None:
    tokenizer = byte_tokenizer(adds_bos=adds_bos)
    settings = TaskSettings(shots=0, chat_template=template)
    try:
        task = registry.create(name).bind(written, settings, chat(tokenizer) if template else None)
    except TaskUnavailable as error:
        pytest.skip(str(error))
    if not task.parts["eval"]:
        pytest.skip("nothing is evaluated")
    part = "eval"  # its rows have both views
    for pending, doc in list(zip(encode(tokenizer, task, part, 0, 100_000), task.parts[part], strict=True))[:5]:
        row = pending.encoded()
        ids = list(row.ids)
        if task.generative:
            assert ids[-1] == tokenizer.eos_token_id
            asked = evaluated(tokenizer, task, doc)
            assert ids[: len(asked[0])] == asked[0]
            assert len(ids) - row.n_target <= len(asked[0])  # spaces that end a prompt are the target's, as in lm-eval
        else:
            assert ids in evaluated(tokenizer, task, doc)
        assert ids.count(tokenizer.bos_token_id) == (1 if adds_bos or template else 0)
