"""Which process something belongs to, and locks that say so."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from results.ground import owners
from results.ground.damage import PlaceError
from results.ground.locks import claimed, forget, holder, joined, locked
from results.ground.owners import Owner, boot, myself, parse

SOMEBODY = Owner(host="node7", boot="0123abcd", pid=12, started=345)


def test_this_process_is_itself() -> None:
    me = myself()
    assert (me.host, me.boot, me.pid) == (socket.gethostname(), boot(), os.getpid())
    assert me.started > 0
    assert me == myself()
    assert me.said() == f"process {os.getpid()} on {socket.gethostname()}"
    assert re.fullmatch("[0-9a-f]{8}", boot())


def test_an_owner_is_a_part_of_a_name_and_read_from_it() -> None:
    assert SOMEBODY.text() == "node7.0123abcd.12.345"
    assert parse(SOMEBODY.text()) == SOMEBODY
    odd = SOMEBODY.model_copy(update={"host": "a.b c-d" + 50 * "x"})
    assert odd.text() == f"a_b_c-d{33 * 'x'}.0123abcd.12.345"


@pytest.mark.parametrize("text", ["", "a.b.c.d", "a.b.1.d", "a.b.c.2", "a.b.1", "a.b.1.2.3", "a.b.-1.2"])
def test_no_other_text_is_an_owner(text: str) -> None:
    assert parse(text) is None


def test_a_process_is_gone_when_its_number_is_free_or_anothers() -> None:
    me = myself()
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    started = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[19])
    ended = me.model_copy(update={"pid": child, "started": started})
    assert ended.gone()  # it has ended, though its parent has not looked yet
    os.waitpid(child, 0)
    assert ended.gone()
    assert not me.gone()
    assert me.model_copy(update={"started": me.started - 1}).gone()
    assert not ended.model_copy(update={"boot": "elsewhere"}).gone()


def test_without_the_systems_files_processes_are_asked_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*_: object) -> str:
        raise OSError

    monkeypatch.setattr(os, "readlink", no)
    monkeypatch.setattr(Path, "exists", lambda self: False)
    first = boot.__wrapped__()
    assert re.fullmatch("[0-9a-f]{8}", first)
    assert boot.__wrapped__() == first != boot()
    started = owners._started(os.getpid())
    assert started is not None
    assert started > 10**9  # seconds since the epoch
    assert owners._started(2**22 + 1) is None


def test_who_holds_a_lock_is_said_while_it_is_held(tmp_path: Path) -> None:
    lock = tmp_path / "new" / "a.lock"
    assert holder(lock) == "another process"
    with claimed(lock) as mine:
        assert mine
        assert holder(lock) == myself().said()
    assert holder(lock) == "another process"
    (lock.parent / "a.lock.owner").write_text("half a no")
    assert holder(lock) == "another process"


def test_a_lock_that_is_shared_keeps_out_who_wants_it_alone(tmp_path: Path) -> None:
    lock = tmp_path / "new" / "a.lock"
    with joined(lock) as one, joined(lock) as two, claimed(lock) as alone:
        assert (one, two, alone) == (True, True, False)
    with claimed(lock) as alone, joined(lock) as shared:
        assert (alone, shared) == (True, False)
    with joined(lock) as again:
        assert again


def test_a_lock_is_waited_for_and_given_back(tmp_path: Path) -> None:
    lock = tmp_path / "new" / "a.turn"
    with locked(lock), claimed(lock) as alone:
        assert not alone
    with locked(lock):
        pass


def test_notes_of_ended_processes_are_forgotten(tmp_path: Path) -> None:
    me = myself()
    notes = {
        "mine.lock.owner": me.model_dump_json(),
        "dead.lock.owner": me.model_copy(update={"started": 1}).model_dump_json(),
        "far.lock.owner": SOMEBODY.model_dump_json(),
        "half.lock.owner": "{",
        "dead.lock": me.model_copy(update={"started": 1}).model_dump_json(),
    }
    for name, text in notes.items():
        (tmp_path / name).write_text(text)
    forget(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == notes.keys() - {"dead.lock.owner"}


def test_where_no_folder_can_be_there_is_no_lock() -> None:
    with pytest.raises(PlaceError) as caught, claimed(Path("/proc/nothing/a.lock")):
        pass
    assert str(caught.value) == "The folder /proc/nothing cannot be made: choose another place."
