"""Base models whose configuration, tokenizer, chat template or weights are damaged or were never right."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.malformed.kinds.adapters import each, header, named
from tests.malformed.world import RECORDED, REFUSED, WORKS, Case, World

CONFIG: dict[str, tuple[Any, ...]] = {
    "model_type": (None, 3, "", "nobody", ["llama"], {"a": 1}, "../llama", "\ud800"),
    "hidden_size": (None, 0, -16, 7, 16.5, "16", [16], 10**9, 10**400, True, float("nan")),
    "num_hidden_layers": (None, -1, "1", 1.5, [1], 10**7),
    "num_attention_heads": (None, 0, -2, 3, "2", 10**9),
    "num_key_value_heads": (0, 3, "2", [2]),
    "vocab_size": (None, 0, -1, "259", 3, 10**12),
    "intermediate_size": (None, 0, -5, "a"),
    "rms_norm_eps": ("small", None, [1]),
    "hidden_act": ("nobody", None, 3),
    "rope_parameters": (3, "a", [1], {"rope_type": "nobody"}, {"rope_theta": "a", "rope_type": "default"}),
    "max_position_embeddings": (None, "a", -1),
    "pad_token_id": ("a", 10**9, -5, [0]),
    "dtype": ("float7", 3, ["float32"]),
    "auto_map": ("a", 3, {"AutoConfig": 3}, {"AutoConfig": "a.B"}),
    "architectures": (3, "a"),
    "quantization_config": ({"quant_method": "nobody"}, 3, "a", {}),
    "attn_implementation": ("nobody",),
    "id2label": (3, "a"),
    "is_encoder_decoder": (True, "a"),
}
TEXTS: dict[str, str | bytes] = {
    "nothing": b"",
    "a list": "[]",
    "a number": "3",
    "null": "null",
    "an empty object": "{}",
    "cut off": '{"model_type": "llama", "hidden_si',
    "not UTF-8": b'{"model_type": "\xff"}',
    "a deep list": "[" * 100_000,
    "a deep object": '{"a":' * 30_000 + "1" + "}" * 30_000,
    "a number of 5,000 digits": '{"model_type": "llama", "hidden_size": ' + "9" * 5000 + "}",
    "zeros": b"\0" * 100,
    "a lone surrogate": '{"model_type": "llama\\ud800"}',
}


def _tokens(model: str) -> str:
    return f'{{"version": "1.0", "added_tokens": [], "model": {model}}}'


TOKENIZER: dict[str, str | bytes] = {
    **{name: text for name, text in TEXTS.items() if name not in ("a deep object",)},
    "another version": '{"version": "9.9", "model": {"type": "BPE"}}',
    "a model that is none": '{"version": "1.0", "model": {"type": "nobody"}}',
    "a word with a number that is none": _tokens('{"type": "WordLevel", "vocab": {"a": "b"}, "unk_token": "a"}'),
    "a merge of what is not there": _tokens('{"type": "BPE", "vocab": {"a": 0}, "merges": ["x y"]}'),
    "no words": _tokens('{"type": "BPE", "vocab": {}, "merges": []}'),
}
TOKENIZER_CONFIG: dict[str, tuple[Any, ...]] = {
    "tokenizer_class": (3, "Nobody", ["a"], "LlamaTokenizer\ud800"),
    "chat_template": (3, ["a"], {"a": "b"}),
    "eos_token": (3, ["a"], {"a": 1}),
    "pad_token": ([1],),
    "model_max_length": ("a", -1, [1]),
    "added_tokens_decoder": (3, {"a": "b"}, {"0": {}}),
    "extra_special_tokens": (3,),
    "auto_map": ({"AutoTokenizer": 3}, "a"),
}
TEMPLATES: dict[str, str | bytes] = {
    "an open tag": "{% for m in messages %}{{ m.content }}",
    "an open brace": "{{ messages",
    "a tag that is none": "{% nobody %}",
    "a filter that is none": "{{ messages | nobody }}",
    "a name that is none": "{{ nobody.there.at_all }}",
    "a division by zero": "{{ 1 / 0 }}",
    "an error of its own": "{{ raise_exception('not today') }}",
    "a call of a text": "{{ 'a'() }}",
    "an addition of kinds": "{{ 'a' + 1 }}",
    "a loop of 10**12": "{% for i in range(1000000000000) %}{% endfor %}",
    "loops in loops": "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3,
    "a text of 10**12 characters": "{{ 'a' * 1000000000000 }}",
    "a number of 10**9 digits": "{{ 10 ** (10 ** 9) }}",
    "a recursion": "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "the class of a text": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "an import": "{% import 'os' as os %}",
    "an include": "{% include '/etc/passwd' %}",
    "nothing": "",
    "what says nothing": "hello",
    "a deep expression": "{{ " + "(" * 500 + "1" + ")" * 500 + " }}",
    "a very deep expression": "{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}",
    "not UTF-8": b"{{ messages }}\xff\xfe",
    "a lone surrogate": "{{ '\\ud800' }}{% for m in messages %}{{ m.content }}{% endfor %}",
    "no user": "{% if messages[0].role == 'user' %}{{ raise_exception('no users') }}{% endif %}",
}  # fmt: skip
WEIGHTS: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda data: b"",
    "three bytes": lambda data: data[:3],
    "cut in the header": lambda data: data[:50],
    "cut in the middle": lambda data: data[: len(data) // 2],
    "cut at the last byte": lambda data: data[:-1],
    "a header of 2**60 bytes": lambda data: struct.pack("<Q", 2**60) + data[8:],
    "a header that is no JSON": lambda data: data[:8] + b"x" + data[9:],
    "a header of a list": lambda data: struct.pack("<Q", 2) + b"[]",
    "a deep header": lambda data: struct.pack("<Q", 50_000) + b"[" * 50_000,
    "no tensors": lambda data: struct.pack("<Q", 2) + b"{}",
    "tensors of other names": lambda data: header(data, lambda parts: named(parts, "x.{}")),
    "tensors of another shape": lambda data: header(data, lambda parts: each(parts, shape=[3, 5])),
    "offsets beyond the end": lambda data: header(data, lambda parts: each(parts, data_offsets=[0, 10**12])),
    "an unknown type": lambda data: header(data, lambda parts: each(parts, dtype="F7")),
    "zeros": lambda data: b"\0" * len(data),
    "a strange format": lambda data: header(data, lambda parts: parts | {"__metadata__": {"format": "tf"}}),
    "a format that is none": lambda data: header(data, lambda parts: parts | {"__metadata__": {"format": "nobody"}}),
    "a pickle": lambda data: b"\x80\x04cos\nsystem\n(S'id'\ntR.",
}  # fmt: skip
MAY_WORK = (REFUSED, RECORDED, WORKS)
"""Of fields that transformers itself does not read for this kind of model: what it makes of them is its own affair."""
ENDS: dict[tuple[str, str], tuple[str, ...]] = {}


def cases() -> Iterator[Case]:
    """All of them."""
    for key, values in CONFIG.items():
        for value in values:
            shown = repr(value)[:30]
            yield Case(
                "model configurations", f"{key} {shown}", lambda world, k=key, v=value: _config(world, k, v), MAY_WORK
            )
    for name, text in TEXTS.items():
        yield Case("model configurations", name, lambda world, t=text: _file(world, "config.json", t), (REFUSED,))
    for name, text in TOKENIZER.items():
        yield Case(
            "tokenizers", name, lambda world, t=text: _tokenizer(world, "tokenizer.json", t), (REFUSED, RECORDED)
        )
    for name, text in TEXTS.items():
        ends = MAY_WORK if name in ("an empty object", "a lone surrogate") else (REFUSED, RECORDED)
        yield Case(
            "tokenizers",
            f"a configuration of {name}",
            lambda world, t=text: _tokenizer(world, "tokenizer_config.json", t),
            ends,
        )
    for key, values in TOKENIZER_CONFIG.items():
        for value in values:
            yield Case(
                "tokenizers",
                f"{key} {value!r:.30}",
                lambda world, k=key, v=value: _tokenizer_config(world, k, v),
                MAY_WORK,
            )
    for name, text in TEMPLATES.items():
        yield Case("chat templates", name, lambda world, t=text: _template(world, t), (REFUSED,))
    for name, change in WEIGHTS.items():
        # Which library wrote them does not change what they say.
        ends = MAY_WORK if name.endswith(" format") or name.startswith("a format") else (REFUSED, RECORDED)
        yield Case("weights", name, lambda world, c=change: _weights(world, c), ends)
    for name, special in SPECIAL.items():
        yield Case("models", name, special, ENDS.get(("", name), (REFUSED, RECORDED)))


def _config(world: World, key: str, value: Any) -> list[str]:
    folder = world.copy("model")
    config = json.loads((folder / "config.json").read_text()) | {key: value}
    (folder / "config.json").write_text(json.dumps(config))
    return world.line(model=folder)


def _file(world: World, name: str, text: str | bytes) -> list[str]:
    folder = world.copy("model")
    world.write(f"model/{name}", text)
    return world.line(model=folder)


def _computed(world: World, folder: Path, *more: str) -> list[str]:
    """What is read when a model is loaded shows when something is computed."""
    return world.line("--methods", "base", *more, model=folder, plan=False)


def _tokenizer(world: World, name: str, text: str | bytes) -> list[str]:
    folder = world.copy("model")
    world.write(f"model/{name}", text)
    return world.line("--methods", "base", "--set", "model.chat_template=true", model=folder)


def _tokenizer_config(world: World, key: str, value: Any) -> list[str]:
    folder = world.copy("model")
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": "{{ messages }}"} | {key: value}))
    return world.line("--methods", "base", "--set", "model.chat_template=true", model=folder)


def _template(world: World, text: str | bytes) -> list[str]:
    folder = world.copy("model")
    world.write("model/chat_template.jinja", text)
    return world.line("--methods", "base", "--set", "model.chat_template=true", model=folder)


def _weights(world: World, change: Callable[[bytes], bytes]) -> list[str]:
    folder = world.copy("model")
    file = folder / "model.safetensors"
    file.write_bytes(change(file.read_bytes()))
    return _computed(world, folder)


def _fifo(world: World, name: str, plan: bool = True) -> list[str]:
    folder = world.copy("model")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    return world.line("--methods", "base", "--set", "model.chat_template=true", model=folder, plan=plan)


def _folder(world: World, name: str) -> list[str]:
    folder = world.copy("model")
    (folder / name).unlink()
    (folder / name).mkdir()
    return _computed(world, folder)


def _without(world: World, name: str) -> list[str]:
    folder = world.copy("model")
    (folder / name).unlink()
    return _computed(world, folder)


def _index(world: World, text: str) -> list[str]:
    folder = world.copy("model")
    (folder / "model.safetensors").unlink()
    world.write("model/model.safetensors.index.json", text)
    return _computed(world, folder)


def _generation(world: World, text: str | bytes) -> list[str]:
    folder = world.copy("model")
    world.write("model/generation_config.json", text)
    return _computed(world, folder)


def _infinite(world: World) -> list[str]:
    folder = world.copy("model")
    data = (folder / "model.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    body = struct.pack("<f", float("nan")) * ((len(data) - 8 - size) // 4)
    (folder / "model.safetensors").write_bytes(data[: 8 + size] + body)
    return _computed(world, folder)


SPECIAL: dict[str, Callable[[World], list[str]]] = {
    "a FIFO for a configuration": lambda world: _fifo(world, "config.json"),
    "a FIFO for a tokenizer": lambda world: _fifo(world, "tokenizer.json"),
    "a FIFO for a tokenizer's configuration": lambda world: _fifo(world, "tokenizer_config.json"),
    "a FIFO for a chat template": lambda world: _fifo(world, "chat_template.jinja"),
    "a FIFO for weights": lambda world: _fifo(world, "model.safetensors", plan=False),
    "a FIFO for a generation's configuration": lambda world: _fifo(world, "generation_config.json", plan=False),
    "a folder for weights": lambda world: _folder(world, "model.safetensors"),
    "a folder for a configuration": lambda world: _folder(world, "config.json"),
    "no weights": lambda world: _without(world, "model.safetensors"),
    "no tokenizer": lambda world: _without(world, "tokenizer.json"),
    "no configuration": lambda world: _without(world, "config.json"),
    "an index of nothing": lambda world: _index(world, "{}"),
    "an index of text": lambda world: _index(world, "text"),
    "an index of numbers": lambda world: _index(world, '{"weight_map": {"a": 3}}'),
    "an index of files that are not there": lambda world: _index(world, '{"weight_map": {"a": "b.safetensors"}}'),
    "an index of files elsewhere": lambda world: _index(world, '{"weight_map": {"a": "../../../etc/passwd"}}'),
    "a generation's configuration of text": lambda world: _generation(world, "text"),
    "a generation's configuration of a list": lambda world: _generation(world, "[]"),
    "a generation's configuration not in UTF-8": lambda world: _generation(world, b"\xff"),
    "weights that are no numbers": _infinite,
}  # fmt: skip
ENDS |= {
    ("", "a generation's configuration of text"): MAY_WORK,
    ("", "a generation's configuration of a list"): MAY_WORK,
    ("", "a generation's configuration not in UTF-8"): MAY_WORK,
}
