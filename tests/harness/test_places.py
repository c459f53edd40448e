"""Places that cannot be used are one sentence, and what several processes make at once is made once."""

from __future__ import annotations

import multiprocessing
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness import assets
from harness.assets import ASSETS, Asset, AssetError, asset_folder, cache_root
from harness.wheels import convert as conversion
from harness.wheels.catalogue import BUNDLED, BundledModel
from harness.wheels.keeping import bundled_model_folder
from harness.wheels.sources import Packaged
from results.ground.digest import file_sha256
from results.ground.files import atomic_folder, is_finished
from results.ground.locks import locked
from tests.harness.runs.command import call

LONG = "n" * 300
ROUNDS = 30


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--methods", "base", "--tasks", "sst2", "--output", ""], "is no path: give a folder"),
        (["run", "--methods", "base", "--tasks", "sst2", "--output", f"/tmp/{LONG}"], "too long"),
        (["run", "--methods", "base", "--tasks", "sst2", "--output", "/tmp/\udcff"], "not in UTF-8"),
        (["run", "--methods", "base", "--tasks", "sst2", "--data", LONG], "too long"),
        (["run", "--methods", "base", "--tasks", "sst2", "--data", "…/data"], "where this was published: name yours"),
        (
            ["run", "--methods", "lora", "--tasks", "sst2", "--experts", "sst2=…/sst2"],
            "where this was published: name yours",
        ),
        (["run", "--methods", "base", "--tasks", "sst2", "--model", LONG], "too long"),
        (["run", "--preset", f"{LONG}.yaml"], "too long"),
        (["run", "--into", f"/tmp/{LONG}"], "too long"),
        (["verify", f"/tmp/{LONG}"], "too long"),
        (["verify", __file__], "a part of the path is a file"),
        (["report", f"/tmp/{LONG}"], "too long"),
        (["new", "method", LONG], "too long"),
    ],
)
@pytest.mark.assets
@pytest.mark.model
def test_what_is_no_place_is_one_sentence(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert call(*arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert words in said[0]
    assert not list(tmp_path.iterdir())


def test_a_cache_that_is_a_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(AssetError, match="is a file: set HARNESS_CACHE to a folder"):
        cache_root()


def test_homes_are_expanded_wherever_a_place_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.planning.stores import stage_store

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HARNESS_CACHE", "~/cache")
    monkeypatch.delenv("HARNESS_STAGES", raising=False)
    assert stage_store().root == tmp_path / "cache" / "stages"
    monkeypatch.setenv("HARNESS_STAGES", "~/stages")
    assert stage_store().root == tmp_path / "stages"


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_locks_are_open_to_the_group_that_shares_a_store(tmp_path: Path) -> None:
    before = os.umask(0o007)
    try:
        with locked(tmp_path / "locks" / "a.lock"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "locks" / "a.lock").stat().st_mode & 0o777 == 0o660
    assert (tmp_path / "locks").stat().st_mode & 0o777 == 0o770


def _toy(wheel: Path) -> None:
    """Stands for the bundled assets and models: an asset that is copied from `wheel`, a model that is made from it."""
    ASSETS["toy"] = Asset("toy", "1.0", wheel.name, file_sha256(wheel), "MIT", "a test", 100)
    BUNDLED["toy"] = BundledModel(Packaged("toy", "toy/rows.txt"), "toy", "MIT", 1, 100, "a test", on_demand=False)

    def download(wanted: Sequence[Asset], target: Path) -> list[Path]:
        for asset in wanted:
            (target / asset.filename).write_bytes(wheel.read_bytes())
        return [target / asset.filename for asset in wanted]

    def convert(source: Path, folder: Path, **_: Any) -> None:
        with atomic_folder(folder) as staging:
            for number in range(5):
                (staging / f"{number}").write_text(source.read_text())

    assets.download, assets.offline = download, lambda: False
    conversion.convert = convert


def _fetches(wheel: Path, root: Path, barrier: Any) -> None:
    _toy(wheel)
    for round_ in range(ROUNDS):
        os.environ["HARNESS_CACHE"] = str(root / str(round_))
        barrier.wait(60)
        folders = [asset_folder("toy"), bundled_model_folder("toy")]
        for _ in range(50):
            assert all(is_finished(folder) for folder in folders)


def test_what_two_processes_fetch_at_once_never_vanishes(tmp_path: Path) -> None:
    wheel = tmp_path / "toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("toy/rows.txt", "one\n")
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    processes = [context.Process(target=_fetches, args=(wheel, tmp_path, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    for round_ in range(ROUNDS):
        for kind in ("assets", "models"):
            (folder,) = (tmp_path / str(round_) / kind).iterdir()
            assert is_finished(folder)
        assert not (tmp_path / str(round_) / "damaged").exists()


def test_what_a_killed_fetch_left_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("toy/rows.txt", "one\n")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    for module, name in ((assets, "download"), (assets, "offline"), (conversion, "convert")):
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setitem(ASSETS, "toy", None)
    monkeypatch.setitem(BUNDLED, "toy", None)
    _toy(wheel)
    left = tmp_path / "cache" / "assets" / ".toy-abc"
    left.mkdir(parents=True)
    (left / "half").write_text("")
    folder = asset_folder("toy")
    assert list(folder.parent.iterdir()) == [folder]
