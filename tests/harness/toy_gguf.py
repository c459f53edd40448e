"""A GGUF file of a few kilobytes, cut into wheels that pip takes from a folder."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from harness.assets import Asset
from harness.wheels.catalogue import BundledModel
from harness.wheels.sources import Joined
from results.ground.digest import file_sha256

WIDTH, INNER, HEADS = 32, 64, 2
END, PAD = "<|im_end|>", "<|endoftext|>"


def byte_alphabet() -> list[str]:
    """The 256 characters that byte-level BPE writes bytes with."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(256) if byte not in plain)
    return [chr(byte) for byte in plain] + [chr(256 + i) for i, _ in enumerate(others)]


TOKENS = [*byte_alphabet(), "th", "the", END, PAD]


def tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of a Qwen2 of one layer by GGUF name, its embeddings without a head."""
    random = np.random.default_rng(seed)

    def drawn(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape) * 0.1).astype(np.float32)

    key = WIDTH // HEADS
    return {
        "token_embd.weight": drawn(len(TOKENS), WIDTH),
        "output_norm.weight": np.ones(WIDTH, np.float32),
        "blk.0.attn_norm.weight": np.ones(WIDTH, np.float32),
        "blk.0.ffn_norm.weight": np.ones(WIDTH, np.float32),
        "blk.0.attn_q.weight": drawn(WIDTH, WIDTH),
        "blk.0.attn_k.weight": drawn(key, WIDTH),
        "blk.0.attn_v.weight": drawn(key, WIDTH),
        "blk.0.attn_q.bias": drawn(WIDTH),
        "blk.0.attn_k.bias": drawn(key),
        "blk.0.attn_v.bias": drawn(key),
        "blk.0.attn_output.weight": drawn(WIDTH, WIDTH),
        "blk.0.ffn_gate.weight": drawn(INNER, WIDTH),
        "blk.0.ffn_up.weight": drawn(INNER, WIDTH),
        "blk.0.ffn_down.weight": drawn(WIDTH, INNER),
    }


def write(path: Path, weights: Mapping[str, np.ndarray], types: Mapping[str, str]) -> Path:
    """Write a GGUF file; matrices are of the quantisation that `types` names for them, or Q8_0."""
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name("toy")
    writer.add_context_length(64)
    writer.add_block_count(1)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3 if token in (END, PAD) else 1 for token in TOKENS])
    writer.add_token_merges(["t h", "th e"])
    writer.add_bos_token_id(TOKENS.index(PAD))
    writer.add_eos_token_id(TOKENS.index(END))
    writer.add_pad_token_id(TOKENS.index(PAD))
    writer.add_add_bos_token(False)
    for name, values in weights.items():
        if values.ndim == 1:
            writer.add_tensor(name, values)
            continue
        kind = gguf.GGMLQuantizationType[types.get(name, "Q8_0")]
        writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def two_heads(path: Path, *, same: bool = True) -> Path:
    """A file whose head is stored apart: in Q8_0 beside embeddings in Q5_0, of one matrix or of two."""
    weights = tensors()
    weights["output.weight"] = weights["token_embd.weight"] if same else tensors(1)["token_embd.weight"]
    return write(path, weights, {"token_embd.weight": "Q5_0"})


def wheels(file: Path, folder: Path, cuts: Sequence[int]) -> Joined:
    """Cut a file before some bytes, put each part into a wheel of a folder, and pin them."""
    data, parts = file.read_bytes(), []
    folder.mkdir()
    for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(data)], strict=True), 1):
        wheel = folder / f"toy_part{number}-1.0-py3-none-any.whl"
        member = f"toy_part{number}/data/part{number}.bin"
        info = f"toy_part{number}-1.0.dist-info"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(member, data[start:end])
            archive.writestr(f"toy_part{number}/__init__.py", "raise SystemExit('a wheel was imported')")
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: toy-part{number}\nVersion: 1.0\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
        asset = Asset(f"toy-part{number}", "1.0", wheel.name, file_sha256(wheel), "MIT", "a test", end - start)
        parts.append((asset, member))
    return Joined("toy.gguf", tuple(parts), hashlib.sha256(data).hexdigest(), len(data))


def model(source: Joined, **other: Any) -> BundledModel:
    """An entry of the catalogue, fetched when it is named."""
    return BundledModel(source, "Toy, head tied", "MIT", 20_000, 1_000_000, "tests", **{"tie": True} | other)
