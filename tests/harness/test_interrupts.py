"""A signal ends the process wherever it arrives, once, and is ignored where whoever started it said so."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from harness.failures import reason
from harness.interrupts import Ended, endable

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


class Deleted:
    """Whatever is raised while it is deleted is dropped by Python."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self.number)
        time.sleep(0)


def delete_and_wait(number: int) -> None:
    Deleted(number)
    time.sleep(5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_arrives_while_an_object_is_deleted_is_not_lost(number: int) -> None:
    hooks = sys.unraisablehook, signal.getsignal(number)
    with pytest.raises(Ended) as ended, endable():
        delete_and_wait(number)
    assert ended.value.code == 128 + number
    assert (sys.unraisablehook, signal.getsignal(number)) == hooks


def test_a_signal_that_was_ignored_from_the_start_stays_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with endable():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_a_library_makes_of_a_signal_is_no_failure(tmp_path: Path) -> None:
    """Loading weights, an interrupt becomes "could not determine the shape of object type"."""

    def load() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        except Ended:
            raise ValueError("could not determine the shape") from None

    def unit() -> None:
        try:
            load()
        except ValueError as error:
            reason("loading", error, tmp_path, tmp_path)

    with pytest.raises(Ended) as ended, endable():
        unit()
    assert ended.value.code == 130
    assert reason("loading", ValueError("no shape"), tmp_path, tmp_path) == "ValueError: no shape", "it is over"
