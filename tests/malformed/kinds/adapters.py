"""Adapters from outside: configurations and weights that are none, or not what they say."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.malformed.world import REFUSED, WORKS, Case, World, changed

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
GONE: Any = object()
NAN = float("nan")
VALUES: dict[str, tuple[Any, ...]] = {
    "r": (GONE, None, "8", "eight", 4.7, 8.0001, 0, -1, True, [8], {"a": 8}, 10**9, 10**400, NAN, float("inf")),
    "lora_alpha": (GONE, None, "16", True, [16], float("nan"), float("inf"), 10**400),
    "use_rslora": ("false", "true", 0, 1, [], {"a": 1}),
    "use_dora": (True, "false", 1),
    "lora_bias": (True, "yes"),
    "fan_in_fan_out": (True, "no"),
    "peft_type": (GONE, None, "ADALORA", "lora", 3, ["LORA"]),
    "bias": ("all", "lora_only", 1, None, ["none"]),
    "target_modules": (GONE, None, [], "", [""], [3], {"a": 1}, 3, "(", "([a-z_.0-9]+)+$", ["nowhere"], [None]),
    "exclude_modules": (3, [3], "(", "([a-z_.0-9]+)+@", [""]),
    "layers_to_transform": ("0", [0.5], ["a"], True, {"a": 1}, [10**400], -1),
    "layers_pattern": (3, ["("], [3]),
    "rank_pattern": (["a"], "a", 3, {"(": 4}, {"q_proj": "4"}, {"q_proj": 2.5}, {"q_proj": None}, {"q_proj": 10**9},
                     {"([a-z_.0-9]+)+@": 4}, {"(.*)*(.*)*(.*)*@": 4}, {"a" * 30_000: 4}, {"(?P<x>a)(?P<x>b)": 4}),
    "alpha_pattern": (["a"], {"[": 4}, {"q_proj": "x"}, {"q_proj": float("nan")}, {"q_proj": float("inf")}, {"(?R)": 3},
                      {"(([a-z.0-9_])+.)+@": 1}),
    "init_lora_weights": (3, ["a"], "pissa", "nobody"),
    "modules_to_save": (["lm_head"], "lm_head"),
    "layer_replication": ([[0, 1]],),
    "trainable_token_indices": ([1],),
    "a_field_of_tomorrow": (True, 3),
    "base_model_name_or_path": (3, ["a"], {"a": 1}),
}  # fmt: skip
TEXTS: dict[str, str | bytes] = {
    "nothing": b"",
    "a list": "[]",
    "a number": "3",
    "null": "null",
    "a text": '"LORA"',
    "cut off": '{"peft_type": "LORA", "r": 8',
    "not UTF-8": b'{"peft_type": "\xff\xfe"}',
    "UTF-16": '{"peft_type": "LORA"}'.encode("utf-16"),
    "a deep list": "[" * 100_000,
    "a deep value": '{"peft_type": "LORA", "r": ' + "[" * 20_000 + "]" * 20_000 + "}",
    "a number of 5,000 digits": '{"peft_type": "LORA", "r": ' + "9" * 5000 + "}",
    "null characters": b"\0" * 1000,
    "a comment": '{"peft_type": "LORA"} // ours',
    "a key twice": '{"peft_type": "LORA", "r": 8, "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}',
    "a lone surrogate": '{"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["\\ud800"]}',
    "a lone surrogate as a type": '{"peft_type": "\\ud800"}',
}


def cases() -> Iterator[Case]:
    """All of them."""
    for key, values in VALUES.items():
        for number, value in enumerate(values):
            shown = "nothing" if value is GONE else json.dumps(value)
            name = f"{key} {shown if len(shown) < 40 else f'{shown[:37]}...'} ({number})"
            yield Case(
                "adapters", name, lambda world, k=key, v=value: _set(world, k, v), ENDS.get((key, shown), (REFUSED,))
            )
    for name, text in TEXTS.items():
        yield Case("adapters", f"a configuration of {name}", lambda world, t=text: _with(world, CONFIG, t))
    for name, change in WEIGHT_CASES.items():
        yield Case("adapters", f"weights {name}", lambda world, c=change: _weights(world, c))
    for name, special in SPECIAL.items():
        yield Case("adapters", name, special)


ENDS = {
    ("peft_type", '"lora"'): (REFUSED,),
    ("bias", "null"): (REFUSED,),
    ("layers_to_transform", "-1"): (REFUSED,),
    ("exclude_modules", '[""]'): (REFUSED, WORKS),
    # Who trained it on what is for people.
    ("base_model_name_or_path", "3"): (REFUSED, WORKS),
    ("base_model_name_or_path", '["a"]'): (REFUSED, WORKS),
    ("base_model_name_or_path", '{"a": 1}'): (REFUSED, WORKS),
    # Excludes nothing that is there: read within its budget, it changes nothing.
    ("exclude_modules", '"([a-z_.0-9]+)+@"'): (REFUSED, WORKS),
    **{
        (key, json.dumps(value)): (REFUSED, WORKS)
        for key in ("rank_pattern", "alpha_pattern")
        for value in VALUES[key]
        if isinstance(value, dict) and "@" in str(value)
    },
}


def _line(world: World, folder: Path) -> list[str]:
    return world.line("--experts", f"sst2={folder},mrpc")


def _set(world: World, key: str, value: Any) -> list[str]:
    folder = world.copy("adapter")
    config = json.loads((folder / CONFIG).read_text())
    config.pop(key, None)
    if value is not GONE:
        config[key] = value
    (folder / CONFIG).write_text(json.dumps(config))
    return _line(world, folder)


def _with(world: World, file: str, text: str | bytes) -> list[str]:
    folder = world.copy("adapter")
    world.write(f"adapter/{file}", text)
    return _line(world, folder)


def _weights(world: World, change: Callable[[bytes], bytes]) -> list[str]:
    folder = world.copy("adapter")
    (folder / WEIGHTS).write_bytes(change((folder / WEIGHTS).read_bytes()))
    return _line(world, folder)


def header(data: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """A safetensors file whose header is changed."""
    (size,) = struct.unpack("<Q", data[:8])
    parts = json.loads(data[8 : 8 + size])
    parts = change(parts) or parts
    text = json.dumps(parts).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def named(parts: dict[str, Any], form: str) -> dict[str, Any]:
    """A header with its tensors under other names."""
    return {key if key == "__metadata__" else form.format(key): part for key, part in parts.items()}


def each(parts: dict[str, Any], **values: Any) -> dict[str, Any]:
    """A header with some values of every tensor replaced."""
    return {key: part if key == "__metadata__" else part | values for key, part in parts.items()}


WEIGHT_CASES: dict[str, Callable[[bytes], bytes]] = {
    "of nothing": lambda data: b"",
    "of three bytes": lambda data: data[:3],
    "cut in the header": lambda data: data[:40],
    "cut in the middle": lambda data: data[: len(data) // 2],
    "cut at the last byte": lambda data: data[:-1],
    "with bytes behind": lambda data: data + b"more",
    "with a header of 2**60 bytes": lambda data: struct.pack("<Q", 2**60) + data[8:],
    "with a header of no bytes": lambda data: struct.pack("<Q", 0) + data[8:],
    "with a header that is no JSON": lambda data: data[:8] + b"x" + data[9:],
    "with a header not in UTF-8": lambda data: data[:8] + b"\xff\xfe" + data[10:],
    "with an empty header": lambda data: struct.pack("<Q", 2) + b"{}",
    "with a list for a header": lambda data: struct.pack("<Q", 2) + b"[]",
    "with a deep header": lambda data: struct.pack("<Q", 50_000) + b"[" * 50_000,
    "of integers": lambda data: header(data, lambda parts: each(parts, dtype="I32")),
    "of an unknown type": lambda data: header(data, lambda parts: each(parts, dtype="F7")),
    "of another shape": lambda data: header(data, lambda parts: each(parts, shape=[3, 5])),
    "of a negative shape": lambda data: header(data, lambda parts: each(parts, shape=[-8, 16])),
    "of a shape of ten to the ninth": lambda data: header(data, lambda parts: each(parts, shape=[10**9, 10**9])),
    "with offsets that overlap": lambda data: header(data, lambda parts: each(parts, data_offsets=[0, 4])),
    "with offsets beyond the end": lambda data: header(data, lambda parts: each(parts, data_offsets=[0, 10**12])),
    "with names of something else": lambda data: header(data, lambda parts: named(parts, "x.{}")),
    "with a name that is a surrogate": lambda data: header(data, lambda parts: named(parts, "{}\ud800")),
    "of a pickle": lambda data: b"\x80\x04cos\nsystem\n(S'id'\ntR.",
    "of zeros": lambda data: b"\0" * 1000,
    "of one tensor alone": lambda data: header(data, lambda parts: {k: v for k, v in parts.items() if "lora_A" in k}),
}  # fmt: skip


def _no_config(world: World) -> list[str]:
    folder = world.copy("adapter")
    (folder / CONFIG).unlink()
    return _line(world, folder)


def _no_weights(world: World) -> list[str]:
    folder = world.copy("adapter")
    (folder / WEIGHTS).unlink()
    return _line(world, folder)


def _fifo(world: World, file: str) -> list[str]:
    folder = world.copy("adapter")
    (folder / file).unlink()
    os.mkfifo(folder / file)
    return _line(world, folder)


def _folder(world: World, file: str) -> list[str]:
    folder = world.copy("adapter")
    (folder / file).unlink()
    (folder / file).mkdir()
    return _line(world, folder)


def _pickle(world: World, data: bytes) -> list[str]:
    folder = world.copy("adapter")
    (folder / WEIGHTS).unlink()
    (folder / "adapter_model.bin").write_bytes(data)
    return _line(world, folder)


def _device(world: World, file: str) -> list[str]:
    folder = world.copy("adapter")
    (folder / file).unlink()
    (folder / file).symlink_to("/dev/zero")
    return _line(world, folder)


def _infinite(world: World) -> list[str]:
    folder = world.copy("adapter")
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-4:] = struct.pack("<f", float("inf"))
    (folder / WEIGHTS).write_bytes(bytes(data))
    return world.line("--experts", f"sst2={folder},mrpc={world.adapter}", "--methods", "uniform")


def _odd_name(world: World) -> list[str]:
    folder = world.copy("adapter")
    changed(folder / CONFIG, {"r": 99})
    odd = folder.with_name("a\udcffb")
    folder.rename(odd)
    return _line(world, odd)


SPECIAL: dict[str, Callable[[World], list[str]]] = {
    "no configuration": _no_config,
    "no weights": _no_weights,
    "a FIFO for a configuration": lambda world: _fifo(world, CONFIG),
    "a FIFO for weights": lambda world: _fifo(world, WEIGHTS),
    "a folder for a configuration": lambda world: _folder(world, CONFIG),
    "a folder for weights": lambda world: _folder(world, WEIGHTS),
    "a device for a configuration": lambda world: _device(world, CONFIG),
    "a device for weights": lambda world: _device(world, WEIGHTS),
    "a pickle that runs code": lambda world: _pickle(world, b"\x80\x04cos\nsystem\n(S'id'\ntR."),
    "a pickle of nothing": lambda world: _pickle(world, b""),
    "a pickle of a list": lambda world: _pickle(world, b"\x80\x02]."),
    "a folder whose name is no UTF-8": _odd_name,
}
