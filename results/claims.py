"""Claims on a store without locks: an object that one writer alone can make, and that its owner keeps young."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import pydantic

from results.ground import owners
from results.ground.errors import HarnessError
from results.ground.network import Network, NetworkError

PATIENCE = 120.0
"""Seconds after its last heartbeat at which a claim is another's to take."""
BEATS = 6
"""Heartbeats in that time."""


class Claim(pydantic.BaseModel):
    """What a claim's object holds. `patience` is its owner's, so that all decide alike; `token` is like no other's."""

    model_config = pydantic.ConfigDict(extra="ignore", frozen=True)

    owner: owners.Owner
    token: str
    patience: float


class Claims:
    """Claims below `claims/` of a store. Each is `claims/<name>/<number>`.

    Whoever finds no living claim makes the next number with a conditional write, which one writer alone can do, and
    looks again: who sees another's living claim then withdraws. The heartbeat is the object's own time, which the
    store's clock gives and which is compared with that clock alone, so that those of the machines may differ.

    Args:
        network: of the store.
        patience: seconds without a heartbeat after which this process's claims may be taken over.
    """

    def __init__(self, network: Network, patience: float = PATIENCE) -> None:
        self.network = network
        self.patience = patience
        self._held: dict[str, bytes] = {}
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def claimed(self, name: str) -> Iterator[bool]:
        """Try to be the one that holds a name: False inside the block when another process is.

        Raises:
            PlaceError: the store cannot be used.
        """
        place = self._take(name)
        if place is None:
            yield False
            return
        try:
            yield True
        finally:
            with self._guard:
                own = self._held.pop(place)
            # One that cannot be given up now ends by its silence; what is under way here matters more.
            with contextlib.suppress(HarnessError):
                store = self.network.hasty()
                if store.read(place) == own:
                    store.delete(place)

    def holder(self, name: str) -> owners.Owner | None:
        """Who holds a name; None where nobody does."""
        living = self._living(name)
        return living[max(living)].owner if living else None

    def _take(self, name: str) -> str | None:
        numbers = self._numbers(name)
        if self._living(name, numbers):
            return None
        place = self._place(name, max(numbers, default=0) + 1)
        claim = Claim(owner=owners.myself(), token=uuid.uuid4().hex, patience=self.patience)
        own = claim.model_dump_json().encode()
        if not self.network.create(place, own):
            return None
        later = self._numbers(name)
        if any(one.token != claim.token for one in self._living(name, later).values()):
            self.network.delete(place)
            return None
        for number in numbers:
            self.network.delete(self._place(name, number))
        with self._guard:
            self._held[place] = own
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="harness-claims", daemon=True)
                self._thread.start()
        return place

    def _place(self, name: str, number: int) -> str:
        return f"claims/{name}/{number:06d}"

    def _numbers(self, name: str) -> list[int]:
        return [int(one) for one in self.network.names(f"claims/{name}") if one.isdecimal()]

    def _living(self, name: str, numbers: list[int] | None = None) -> dict[int, Claim]:
        """Claims by number whose owners are not known to have ended and have not been silent for too long."""
        found: dict[int, Claim] = {}
        for number in self._numbers(name) if numbers is None else numbers:
            place = self._place(name, number)
            written, data = self.network.modified(place), self.network.read(place)
            if written is None or data is None:
                continue
            try:
                claim = Claim.model_validate_json(data)
            except pydantic.ValidationError:
                continue
            if not claim.owner.gone() and self.now() - written <= claim.patience:
                found[number] = claim
        return found

    def now(self) -> float:
        """Seconds since the epoch by the store's clock, rather early than late.

        Raises:
            NetworkError: it does not say when something was written.
        """
        return time.monotonic() + self._offset

    @cached_property
    def _offset(self) -> float:
        """Of the store's clock against this process's, too small by at most the time of one write: a claim that looks
        too old would be taken from who is at work."""
        name = f"probes/{uuid.uuid4().hex}"
        self.network.write(name, b"what time is it?")
        after = time.monotonic()
        written = self.network.modified(name)
        self.network.delete(name)
        if written is None:
            raise NetworkError(f"{self.network.url} loses what was written to it", "take another server")
        return written - after

    def _beat(self) -> None:
        """Write every claim that is held and still this process's own again, for as long as there is one."""
        while True:
            time.sleep(self.patience / BEATS)
            with self._guard:
                if not self._held:
                    self._thread = None
                    return
            for place in list(self._held):
                # Guarded: a claim that is given up meanwhile must not be written again. A store that does not answer
                # now may do so at the next beat, and what needs it meanwhile says so itself.
                with self._guard, contextlib.suppress(HarnessError):
                    own, store = self._held.get(place), self.network.hasty()
                    if own is not None and store.read(place) == own:
                        store.write(place, own)
