"""What is stored is checked when it is used: a damaged stage is set aside, named, and made again."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from results.ground import owners
from results.ground.damage import PlaceError, damage
from results.ground.files import atomic_folder, is_finished, make_folder, set_aside, write_bytes
from results.ground.locks import claimed, holder
from results.stages import Stages
from results.store import RunFolder, StoreError
from tests.results.test_store import make_items, make_record, new_run


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x41
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(b"")


def stored(root: Path) -> Stages:
    stages = Stages(root)
    with stages.create("expert", "k", meta={"seconds": 1.0}) as folder:
        (folder / "weights").write_bytes(b"x" * 100)
    return stages


@pytest.mark.parametrize("file", ["weights", "meta.json", "DONE"])
def test_a_cut_stage_is_not_there_for_a_plan_and_is_made_again(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = stored(tmp_path)
    cut(tmp_path / "expert" / "k" / file)
    assert stages.find("expert", "k") is None
    assert (tmp_path / "expert" / "k").exists()  # looking changes nothing
    assert stages.load("expert", "k") is None
    (line,) = capsys.readouterr().err.splitlines()
    assert "expert/k is damaged" in line
    assert file in line
    assert len(list((tmp_path / "damaged").iterdir())) == 1
    assert stored(tmp_path).load("expert", "k") is not None


def test_a_flipped_byte_is_found_when_the_stage_is_used(tmp_path: Path) -> None:
    stages = stored(tmp_path)
    flip(tmp_path / "expert" / "k" / "weights")
    assert stages.find("expert", "k") is not None  # its size is right, and a plan looks no closer
    assert stages.load("expert", "k") is None


def test_what_was_read_is_read_again_once_it_changes(tmp_path: Path) -> None:
    stages = stored(tmp_path)
    file = tmp_path / "expert" / "k" / "weights"
    before = file.stat()
    assert stages.load("expert", "k") is not None
    flip(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # the time of change of the inode tells it all the same
    assert stages.load("expert", "k") is None


def test_a_newer_store_is_refused(tmp_path: Path) -> None:
    stages = stored(tmp_path)
    marker = tmp_path / "expert" / "k" / "DONE"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"version": 99}))
    for look in (stages.find, stages.load):
        with pytest.raises(StoreError, match="update the harness"):
            look("expert", "k")
    assert marker.exists()


def test_an_older_marker_without_sizes_is_read(tmp_path: Path) -> None:
    stages = stored(tmp_path)
    marker = tmp_path / "expert" / "k" / "DONE"
    marker.write_text(json.dumps({"sha256": json.loads(marker.read_text())["sha256"]}))
    assert stages.load("expert", "k") is not None


def test_what_is_whole_is_not_set_aside(tmp_path: Path) -> None:
    stages = stored(tmp_path)
    assert set_aside(stages.path("expert", "k"), tmp_path / "damaged") is None
    assert stages.load("expert", "k") is not None


def test_files_are_open_to_those_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o007)
    try:
        with atomic_folder(tmp_path / "k") as folder:
            (folder / "a").write_text("x")
            (folder / "a").chmod(0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "k" / "a").stat().st_mode & 0o777 == 0o660


def test_a_claim_is_one_process_and_ends_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "locks" / "a.lock"
    code = "from results.ground.locks import claimed; from pathlib import Path; import os, time\n"
    code += f"with claimed(Path({str(lock)!r})) as mine:\n print(mine, flush=True)\n time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with claimed(lock) as mine:
            assert not mine
        assert f"process {other.pid} on " in holder(lock)
        other.kill()
        other.wait()
    with claimed(lock) as mine:
        assert mine


def test_what_a_killed_process_left_is_swept_and_what_a_live_one_writes_is_not(tmp_path: Path) -> None:
    from results.ground.files import STAGING

    stages, me = Stages(tmp_path), owners.myself()
    dead = me.model_copy(update={"started": me.started + 1})
    (tmp_path / "expert").mkdir()
    (tmp_path / "locks").mkdir()
    for owner in (me, dead):
        (tmp_path / "expert" / f"{STAGING}k.{owner.text()}.{'0' * 8}").mkdir()
        (tmp_path / "expert" / f"{STAGING}k.json.{owner.text()}.{'0' * 8}").write_text("half")
        (tmp_path / "locks" / f"{owner.started}.lock.owner").write_text(owner.model_dump_json())
    stages.sweep()
    kept = sorted(path.name for kind in ("expert", "locks") for path in (tmp_path / kind).iterdir())
    assert len(kept) == 3
    assert all(str(me.started) in name for name in kept)


def test_a_process_number_that_is_used_again_is_another_owner() -> None:
    me = owners.myself()
    assert owners.parse(me.text()) == me.model_copy(update={"host": me.text().split(".")[0]})
    assert not me.gone()
    assert me.model_copy(update={"started": me.started + 1}).gone()
    assert not me.model_copy(update={"boot": "00000000", "started": 1}).gone()  # of another machine nothing is known


def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    for write in (lambda: write_bytes(tmp_path / "a", b"x"), lambda: stored(tmp_path)):
        with pytest.raises(PlaceError, match="the disk is full: free some space"):
            write()
    assert not (tmp_path / "a").exists()
    assert not is_finished(tmp_path / "expert" / "k")


def test_a_disk_without_room_for_a_folder_is_full_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "file").write_text("")
    with pytest.raises(PlaceError, match="file is a file"):
        make_folder(tmp_path / "file" / "a")
    with pytest.raises(PlaceError, match="too long"):
        make_folder(tmp_path / ("n" * 300))
    monkeypatch.setattr(os, "mkdir", no_space)
    with pytest.raises(PlaceError, match="the disk is full: free some space"):
        make_folder(tmp_path / "a")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EROFS, "x", "/a"), "read-only"),
        (OSError(errno.ENAMETOOLONG, "x", "a" * 300), "too long"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "the disk is full"),
        (OSError(errno.EDQUOT, "x"), "quota"),
    ],
)
def test_what_the_file_system_does_has_words(error: Exception, words: str) -> None:
    assert words in str(damage(error, "/place"))


def test_an_error_that_is_a_programs_own_has_none() -> None:
    assert damage(FileNotFoundError(errno.ENOENT, "x", "/a")) is None
    assert damage(ValueError("space")) is None


def changed_plan(change: Callable[[bytes], bytes], folder: Path) -> RunFolder:
    record = make_record()
    run = new_run(folder, record)
    run.write_cell(record, make_items())
    assert run.verify() == []
    (folder / "run.yaml").write_bytes(change((folder / "run.yaml").read_bytes()))
    return RunFolder.open(folder)


def test_half_a_plan_is_no_plan(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is cut off; remove it and run"):
        changed_plan(lambda data: data[: data.index(b"# sha256")], tmp_path)
    (tmp_path / "run.yaml").unlink()
    assert RunFolder.find(tmp_path) is None  # a run may start where only its cells are left


def test_a_plan_that_was_edited_is_named(tmp_path: Path) -> None:
    run = changed_plan(lambda data: data.replace(b"method: mixer", b"method: other"), tmp_path)
    said = run.verify()
    assert said[0] == "run.yaml is not the file that was written."
    assert "names it otherwise than its record" in said[1]


def test_a_record_of_another_schema_is_refused_before_it_is_read(tmp_path: Path) -> None:
    record = make_record()
    run = new_run(tmp_path, record)
    for version, mend in ((99, "update the harness"), (0, "--replace")):
        run.write_cell(record.model_copy(update={"schema_version": version}), make_items())
        with pytest.raises(StoreError, match=mend):
            run.record(record.cell)


def test_failed_cells_are_counted(tmp_path: Path) -> None:
    failed = make_record(status="failed")
    run = new_run(tmp_path, failed)
    run.write_cell(failed, [])
    assert run.failed() == 1
    assert run.verify() == [f"{failed.cell} (mixer on sst2): it failed: It failed."]


def test_a_path_is_never_empty_and_its_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.commands.arguments import place
    from results.ground.errors import HarnessError

    monkeypatch.setenv("HOME", "/home/ada")
    assert place("~/runs") == Path("/home/ada/runs")
    for text in ("", "  ", "a\0b"):
        with pytest.raises(HarnessError, match="is no path"):
            place(text)


def test_every_path_of_the_command_line_goes_through_one_reading() -> None:
    from typing import get_type_hints

    from harness.cli import app
    from harness.commands.arguments import place

    apps = [app, *(group.typer_instance for group in app.registered_groups)]
    seen = []
    for command in (command for one in apps if one for command in one.registered_commands):
        for name, hint in get_type_hints(command.callback, include_extras=True).items():
            if "Path" in str(getattr(hint, "__origin__", hint)):
                (info,) = hint.__metadata__
                assert info.parser is place, (command.callback, name)
                seen.append(name)
    assert len(seen) > 15
