"""Claims on a store without locks: one holder, kept while it lives, taken over when it is silent."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from results.claims import Claims
from results.ground import owners
from tests.results.stores import Memory, fails, first, hangs, network


@pytest.fixture
def memory() -> Memory:
    return Memory()


def claims(memory: Memory, patience: float = 60.0) -> Claims:
    return Claims(network(memory), patience)


def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims from now on are those of another machine's process."""
    own = owners.myself()
    monkeypatch.setattr(owners, "myself", lambda: own.model_copy(update={"boot": "another", "host": "far"}))


def silent(memory: Memory, patience: float, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A claim on `stage` whose process on another machine has just been killed."""
    with monkeypatch.context() as patch:
        elsewhere(patch)
        killed = claims(memory, patience)
        patch.setattr(killed, "_beat", lambda: None)
        stack = ExitStack()
        assert stack.enter_context(killed.claimed("stage"))
    return stack


def test_one_holds_a_claim_until_it_gives_it_up(memory: Memory) -> None:
    one, other = claims(memory), claims(memory)
    assert other.holder("stage") is None
    with one.claimed("stage") as mine, other.claimed("stage") as theirs, other.claimed("next") as next_one:
        assert (mine, theirs, next_one) == (True, False, True)
        assert other.holder("stage") == owners.myself()
    with other.claimed("stage") as theirs:
        assert theirs
    assert memory.held() == []


def test_it_is_given_up_when_its_work_fails(memory: Memory) -> None:
    with pytest.raises(RuntimeError), claims(memory).claimed("stage"):
        raise RuntimeError
    assert memory.held() == []


def test_of_many_that_want_one_at_once_one_gets_it(memory: Memory) -> None:
    memory.trouble = lambda operation, path: time.sleep(0.001)  # type: ignore[func-returns-value]

    def held(_: int) -> bool:
        with claims(memory).claimed("stage") as mine:
            time.sleep(0.3 if mine else 0)
            return mine

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(held, range(8))) == 1


def test_the_claim_of_a_silent_process_is_taken_over_after_its_patience(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = silent(memory, 0.4, monkeypatch)
    other = claims(memory)  # its own patience is another one: that of the claim counts
    with other.claimed("stage") as mine:
        assert not mine
    time.sleep(0.5)
    with other.claimed("stage") as mine:
        assert mine
        killed.close()  # it was suspended, and ends now: what it held is no longer its own
        with claims(memory).claimed("stage") as third:
            assert not third
    assert memory.held() == []


def test_of_many_that_take_one_over_one_gets_it(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    silent(memory, 0.1, monkeypatch)
    time.sleep(0.2)
    test_of_many_that_want_one_at_once_one_gets_it(memory)


def test_the_claim_of_a_process_that_lives_outlasts_its_patience(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere(monkeypatch)
    with claims(memory, 0.3).claimed("stage"):
        monkeypatch.undo()
        for _ in range(4):
            time.sleep(0.2)
            with claims(memory).claimed("stage") as mine:
                assert not mine


def test_the_claim_of_a_process_that_is_known_to_be_dead_is_taken_at_once(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    dead = owners.myself().model_copy(update={"pid": child})
    os.waitpid(child, 0)
    with monkeypatch.context() as patch:
        patch.setattr(owners, "myself", lambda: dead)
        ExitStack().enter_context(claims(memory).claimed("stage"))
    with claims(memory).claimed("stage") as mine:
        assert mine


def test_the_clocks_of_machines_may_differ(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = silent(memory, 60.0, monkeypatch)
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 3600.0)
    with claims(memory).claimed("stage") as mine:
        assert not mine
    killed.close()


def test_a_store_that_answers_slowly_makes_no_claim_old(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = silent(memory, 0.2, monkeypatch)
    memory.trouble = lambda operation, path: hangs() if "probes" in path and operation == "read" else None
    assert claims(memory).now() <= time.time()
    killed.close()


def test_a_claim_that_cannot_be_given_up_hides_no_failure_of_its_work(memory: Memory) -> None:
    def interrupted() -> None:
        with claims(memory).claimed("stage"):
            memory.trouble = first(10**6, fails, "read")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()


def test_a_heartbeat_that_is_late_stops_nothing(memory: Memory) -> None:
    with claims(memory, 0.6).claimed("stage"):
        memory.trouble = first(1, hangs)
        time.sleep(0.3)
    assert memory.held() == []


def test_claims_are_numbered_and_one_that_is_taken_over_goes(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    with claims(memory).claimed("stage"):
        assert memory.held() == ["claims/stage/000001"]
    killed = silent(memory, 0.0, monkeypatch)
    time.sleep(0.01)
    with claims(memory).claimed("stage") as mine:
        assert mine
        assert memory.held() == ["claims/stage/000002"]
    killed.close()


def test_who_comes_too_late_writes_nothing(memory: Memory) -> None:
    with claims(memory).claimed("stage"):
        written: list[str] = []
        memory.trouble = lambda operation, path: written.append(path) if operation == "write" else None  # type: ignore[func-returns-value]
        with claims(memory).claimed("stage") as mine:
            assert not mine
    assert not [path for path in written if "/claims/" in path]


def test_who_sees_another_claim_after_its_own_withdraws_it(memory: Memory) -> None:
    """Two numbers at once: a claim that another machine wrote between the first look and the second."""
    late = claims(memory)
    look = late._living
    looks = iter([{}])
    late._living = lambda name, numbers=None: next(looks, None) or look(name, numbers)  # type: ignore[method-assign]
    with claims(memory).claimed("stage") as first_one, late.claimed("stage") as mine:
        assert (first_one, mine) == (True, False)
        assert memory.held() == ["claims/stage/000001"]


def test_a_heartbeat_writes_over_no_claim_of_another(memory: Memory) -> None:
    with claims(memory, 0.12).claimed("stage"):
        memory.pipe_file("/bucket/stages/claims/stage/000001", b"another's")
        time.sleep(0.1)
        assert memory.cat_file("/bucket/stages/claims/stage/000001") == b"another's"
        beating = [thread.daemon for thread in threading.enumerate() if thread.name == "harness-claims"]
        assert beating
        assert all(beating)  # a claim keeps no process alive
    assert memory.held() == ["claims/stage/000001"]


def test_what_is_no_claim_holds_nothing(memory: Memory) -> None:
    memory.pipe_file("/bucket/stages/claims/stage/000007", b"{}")
    memory.pipe_file("/bucket/stages/claims/stage/notes", b"{}")
    assert claims(memory).holder("stage") is None
    with claims(memory).claimed("stage") as mine:
        assert mine
        assert memory.held() == ["claims/stage/000008", "claims/stage/notes"]
