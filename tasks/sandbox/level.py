"""What a level of isolation is."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tasks.sandbox.interpreter import Role
from tasks.sandbox.model import Limits


@dataclass(frozen=True)
class Command:
    """How to start one sandboxed process. `inputs` are bytes that the command reads from descriptors.

    An argument equal to a key of `inputs` is replaced by the number of a descriptor that holds those bytes.
    """

    argv: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, bytes] = field(default_factory=dict)


class Level(ABC):
    """One way to lock a process up. `promise` is a sentence for users; `refused` names the canary's checks (see
    `tasks.sandbox.canary`) that must be refused for the level to count as working."""

    name: ClassVar[str]
    promise: ClassVar[str]
    refused: ClassVar[frozenset[str]]
    shares_processes: ClassVar[bool] = False
    """Whether candidates see the harness and other programs as processes of the same user. Then the harness may not be
    inspected while they run, and no judge is started beside a candidate that could take hold of it before it hides."""

    @abstractmethod
    def missing(self) -> str | None:
        """None, or the sentence that says what to install; cheap, starts nothing."""

    @abstractmethod
    def command(self, role: Role, limits: Limits) -> Command:
        """How to start the process that holds the candidate, or the judge."""

    def versions(self) -> dict[str, str]:
        """Versions of what isolates, for the record; of a level that is not missing."""
        return {}

    def judge(self) -> Level:
        """The level that the judge runs at: this one, unless it is costly."""
        return self

    def config(self, role: Role, limits: Limits) -> dict[str, Any]:
        """Settings of `guest.confine.confine`."""
        return {
            "memory": limits.memory,
            "cpu": int(limits.ceiling) + 5,
            "file": limits.file,
            "processes": None,
            "seal": [],
            "drop_root": False,
            "private": role == "judge",
            "drop_capabilities": self.shares_processes,
            "filter": None,
        }

    def config_json(self, role: Role, limits: Limits) -> str:
        return json.dumps(self.config(role, limits), separators=(",", ":"))
