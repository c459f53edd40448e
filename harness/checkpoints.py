"""Going on inside a stage: what its computation has come to is kept now and then, and a killed one starts from there.

A stage is computed in pieces, one after the other and always the same ones: the phases of a fit, the kinds of requests
of an evaluation. `Checkpoint.run` computes a piece, or takes its result from an earlier process; the piece that this
one was in goes on from the state it has offered last (`Piece.offer`). Everything in between is computed again, so that
whatever computes a stage says nothing of checkpoints but its pieces' names and states.

Kept are tensors, numbers, texts, and lists and dictionaries of them; what is read back equals it to the bit.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from harness.failures import in_less_memory
from results.ground.damage import PlaceError, StoreError
from results.ground.errors import HarnessError
from results.partial import Partial
from results.stages import Stages

Data = dict[str, Any]
T = TypeVar("T")

FORMAT = 1
EVERY = 30.0
"""Seconds between two checkpoints, and before the first."""
SHARE = 20
"""Writing takes at most one part of so many of the time: on a slow disk checkpoints are further apart."""
_DONE, _NOW, _FILE = "done-", "now-", "data.pt"


def every() -> float:
    """Seconds between checkpoints: `$HARNESS_CHECKPOINT_SECONDS`, where 0 means as often as can be.

    Raises:
        HarnessError: it is no such number.
    """
    text = os.environ.get("HARNESS_CHECKPOINT_SECONDS") or str(EVERY)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not (seconds >= 0 and math.isfinite(seconds)):
        raise HarnessError(f"HARNESS_CHECKPOINT_SECONDS is {text!r:.40}: give seconds, such as 30.")
    return seconds


class Piece:
    """One piece of a computation.

    Attributes:
        state: what it offered last in an earlier process; None where it begins.
    """

    def __init__(self, checkpoint: Checkpoint | None = None, state: Data | None = None) -> None:
        self._checkpoint = checkpoint
        self.state = state

    def offer(self, state: Callable[[], Data]) -> None:
        """Keep what `state` gives, if it is time; cheap if it is not."""
        if self._checkpoint is not None and self._checkpoint.due():
            self._checkpoint.save(state())

    def say(self, text: str) -> None:
        """Tell whoever watches the stage."""
        if self._checkpoint is not None:
            self._checkpoint.say(text)


class Checkpoint:
    """What one stage has come to.

    Args:
        what: the stage in words.
        partial: its parts on the disk; None keeps nothing.
        made: what a state must have been made with to be gone on from.
        seconds: between checkpoints.
        say: takes lines for whoever watches.

    Attributes:
        size: that the kept state was computed in (`in_less_memory`), and `asked` what was asked for; None without one.
        ambient: gives state that belongs to no single piece, kept with each; None from it: nothing can be kept.
        around: what `ambient` gave in an earlier process; None where there was none.
        peak: gives the most memory of this process so far, in bytes.
        replayed: whether the latest piece's result is that of an earlier process.
    """

    def __init__(
        self,
        what: str = "",
        partial: Partial | None = None,
        made: Mapping[str, str] | None = None,
        *,
        seconds: float = EVERY,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.what = what
        self.say = say
        self.ambient: Callable[[], Data | None] = dict
        self.peak: Callable[[], int | None] = lambda: None
        self.replayed = False
        self._partial = partial
        self._made = dict(made or {}) | {"format": str(FORMAT)}
        self._seconds = seconds
        self._started = time.monotonic()
        self._next = self._started + seconds
        self._before: Data = {}
        self._number = 0
        self._forget()
        if partial is not None and (found := self._found(partial)) is not None:
            self._take(*found)

    def _forget(self) -> None:
        self.size: int | None = None
        self.asked: int | None = None
        self.around: Data | None = None
        self._results: list[tuple[str, Any]] = []
        self._kept = self._at = 0
        self._piece = ""
        self._state: Data | None = None

    # ---- what an earlier process left

    def _found(self, partial: Partial) -> tuple[Data, list[Data]] | None:
        """The last checkpoint and the results of the pieces before it; None where there is none that can be used."""
        names = partial.names()
        if not names:
            return None
        try:
            last = [name for name in names if name.startswith(_NOW)][-1:]
            self._number = max((int(name.removeprefix(_NOW)) for name in last), default=0)
            now = _read(partial.part(last[0])) if last else None
            if now is not None and (other := _differing(now["made"], self._made)):
                raise StoreError(f"it was made with {other}")
            if now is not None:
                return now, [_read(partial.part(f"{_DONE}{index:04}")) for index in range(now["results"])]
        except (StoreError, LookupError, ValueError, TypeError, AttributeError) as error:
            why = str(error).rstrip(".")
            sys.stderr.write(f"harness: the checkpoint of {self.what} is not used ({why}): it starts anew.\n")
        partial.clear()
        return None

    def _take(self, now: Data, results: list[Data]) -> None:
        self.size, self.asked, self.around = now["size"], now["asked"], now["ambient"]
        self._results = [(one["piece"], one["result"]) for one in results]
        self._kept = len(results)
        self._piece, self._state = now["piece"], now["state"]
        self._before = {"seconds": now["seconds"], "peak": now["peak"]}

    # ---- this process

    def in_less_memory(
        self, compute: Callable[[int], T], asked: int, *, least: int = 1, may: Callable[[], bool] = lambda: True
    ) -> tuple[T, int, int]:
        """`harness.failures.in_less_memory`, where each size begins anew but that of the kept state.

        Returns:
            What `compute` gave, the size, and what was asked for.
        """
        asked = self.asked or asked

        def tried(size: int) -> T:
            if self.size != size:
                self.clear()
            self.size, self.asked, self._at = size, asked, 0
            return compute(size)

        result, size = in_less_memory(tried, self.size or asked, least=least, may=may)
        return result, size, asked

    def run(self, name: str, compute: Callable[[Piece], T]) -> T:
        """The result of the next piece, computed here or by an earlier process.

        Args:
            name: of the piece.
            compute: gives its result, which can be kept.

        Raises:
            StoreError: an earlier process computed another piece in its place.
        """
        at, self._at = self._at, self._at + 1
        self.replayed = at < len(self._results)
        known = self._results[at][0] if self.replayed else self._piece if self._state is not None else name
        if known != name:
            raise StoreError(f"The checkpoint of {self.what} does not fit ({known}, not {name}): run again.")
        if self.replayed:
            result: T = self._results[at][1]
            return result
        self._piece, state, self._state = name, self._state, None
        result = compute(Piece(self, state))
        self._results.append((name, result))
        self._piece = ""
        if self.due():
            self.save(None)
        return result

    def begin(self) -> None:
        """What is spent counts from here on."""
        self._started = time.monotonic()

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self._partial is not None and time.monotonic() >= self._next

    def save(self, state: Data | None) -> None:
        """Write what there is, on a disk that holds it after a power cut.

        Raises:
            PlaceError: the disk is full, or the place cannot be written to.
        """
        partial, started = self._partial, time.monotonic()
        around = self.ambient()
        if partial is None or around is None or not partial.held():
            self._next = math.inf
            return
        for index in range(self._kept, len(self._results)):
            piece, result = self._results[index]
            with partial.add(f"{_DONE}{index:04}") as folder:
                _write(folder, {"piece": piece, "result": result})
        self._kept = len(self._results)
        self._number += 1
        now: Data = {"made": self._made, "piece": self._piece, "state": state, "ambient": around, "results": self._kept}
        now |= {"size": self.size, "asked": self.asked, "seconds": self.seconds, "peak": self.most}
        with partial.add(f"{_NOW}{self._number:06}") as folder:
            _write(folder, now)
        for name in partial.names():
            if name.startswith(_NOW) and name != f"{_NOW}{self._number:06}":
                partial.drop(name)
        ended = time.monotonic()
        self._next = ended + (max(self._seconds, SHARE * (ended - started)) if self._seconds else 0.0)

    def clear(self) -> None:
        """Begin anew."""
        if self._partial is not None:
            self._partial.clear()
        self._forget()

    @property
    def seconds(self) -> float:
        """Spent on the stage so far, in this process and in earlier ones up to the checkpoint."""
        return float(self._before.get("seconds", 0.0)) + time.monotonic() - self._started

    @property
    def most(self) -> int | None:
        """Most memory so far, in bytes, likewise."""
        found = [peak for peak in (self._before.get("peak"), self.peak()) if peak is not None]
        return max(found, default=None)


NOTHING = Piece()
"""A piece of something that is computed at once."""


@contextmanager
def checkpoint(
    stages: Stages, kind: str, key: str, what: str, made: Mapping[str, str], say: Callable[[str], None]
) -> Iterator[Checkpoint]:
    """The checkpoint of a stage while it is computed and stored; nothing of it is left once it is stored, or has failed
    for a reason that would come again.

    Args:
        stages: the store.
        kind: of the stage.
        key: of the stage.
        what: the stage in words.
        made: versions and device that give equal numbers.
        say: takes lines for whoever watches.

    Raises:
        HarnessError: `$HARNESS_CHECKPOINT_SECONDS` is no number of seconds.
        PlaceError: the store cannot be written to.
    """
    partial = stages.partial(kind, key)
    try:
        kept = Checkpoint(what, partial, dict(made) | {"stage": f"{kind}/{key}"}, seconds=every(), say=say)
        try:
            yield kept
        except PlaceError:
            raise
        except HarnessError:
            kept.clear()
            raise
        kept.clear()
    finally:
        partial.release()


def _write(folder: Path, data: Data) -> None:
    import torch

    with (folder / _FILE).open("wb") as file:  # whose errors say what was wrong, as torch's own do not
        torch.save(data, file)


def _read(folder: Path) -> Data:
    """What `_write` wrote; nothing in it is executed.

    Raises:
        StoreError: it is something else.
    """
    import pickle

    import torch

    try:
        found = torch.load(folder / _FILE, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError) as error:
        raise StoreError(f"{folder.name}/{_FILE} cannot be read: {error}".splitlines()[0]) from error
    if not isinstance(found, dict):
        raise StoreError(f"{folder.name}/{_FILE} is no checkpoint")
    return found


def _differing(found: Mapping[str, str], own: Mapping[str, str]) -> str:
    """What a state was made with that is not so here, in words."""
    names = [name for name in own if found.get(name) != own[name]]
    return ", ".join(f"{name} {found.get(name)}, not {own[name]}" for name in names)
