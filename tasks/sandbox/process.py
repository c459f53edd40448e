"""Level `process`: a fresh interpreter with limits. Protects against accidents, not against intent."""

from __future__ import annotations

import os
import sys
from typing import Any

from tasks.sandbox.interpreter import GUEST_PARENT, Role, guest_command, interpreter
from tasks.sandbox.level import Command, Level
from tasks.sandbox.model import Limits


class ProcessLevel(Level):
    name = "process"
    promise = "own session, empty environment, memory and time limits; protects against accidents only"
    refused = frozenset({"memory", "environment"})
    shares_processes = True

    def missing(self) -> str | None:
        if os.name != "posix":
            return "Generated code needs a POSIX system: run the harness on Linux, macOS or in WSL."
        return None

    def config(self, role: Role, limits: Limits) -> dict[str, Any]:
        return super().config(role, limits) | {"processes": 0 if sys.platform == "linux" else None}

    def command(self, role: Role, limits: Limits) -> Command:
        executable = str(interpreter().executable)
        return Command(guest_command(executable, str(GUEST_PARENT), role, self.config_json(role, limits)))
