"""Level `landlock`: file rules of the kernel's Landlock module and the seccomp filter; no namespaces, no root."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from tasks.sandbox import seccomp
from tasks.sandbox.interpreter import GUEST_PARENT, Entry, Interpreter, Role, guest_command, interpreter
from tasks.sandbox.level import Command, Level
from tasks.sandbox.model import Limits

MINIMUM_ABI = 3
"""The first that governs truncation (Linux 6.2)."""


class LandlockLevel(Level):
    name = "landlock"
    promise = "Landlock file rules and seccomp allow-list; names, sizes and dates of host files stay visible"
    refused = frozenset({"memory", "environment", "files", "prefix", "write", "fork", "exec", "network", "signal"})

    shares_processes = True

    def missing(self) -> str | None:
        if sys.platform != "linux":
            return "Landlock needs Linux: run the harness there, or in a Linux virtual machine."
        if os.geteuid() == 0:
            return "landlock is refused for root, whose files it leaves visible: run the harness as a user of its own."
        if importlib.util.find_spec("landlockpy") is None:
            return "the Landlock library is not installed: `pip install '.[landlock]'` in the clone."
        try:
            seccomp.program("run")
        except (ImportError, RuntimeError):
            return "the seccomp library is missing: `apt-get install libseccomp2` and `pip install pyseccomp`."
        import landlockpy

        if landlockpy.abi_version() < MINIMUM_ABI:
            return "this kernel has no Landlock of ABI 3: use Linux 6.2 or newer with `landlock` in its `lsm=` list."
        return None

    def versions(self) -> dict[str, str]:
        import landlockpy

        return {"landlock": f"ABI {landlockpy.abi_version()}", "seccomp": seccomp.version()}

    def config(self, role: Role, limits: Limits) -> dict[str, Any]:
        return super().config(role, limits) | {"filter": seccomp.program("run").hex()}

    def command(self, role: Role, limits: Limits) -> Command:
        python = interpreter()
        inside = guest_command(str(python.executable), str(GUEST_PARENT), role, self.config_json(role, limits))
        launcher = str(GUEST_PARENT / "landlocked.py")
        argv = [str(python.executable), "-I", "-S", "-B", launcher, "{rules}", *inside]
        return Command(argv, inputs={"{rules}": _rules(python, python.listing())})


@lru_cache(maxsize=8)
def _rules(python: Interpreter, listing: tuple[Entry, ...]) -> bytes:
    """Made once for the library's folders as they are, since every program that is judged asks for it twice."""
    library = (entry.path for entry in listing if python.belongs(entry))
    rules = {
        "library": _library_folder(),
        "listed": [str(folder) for folder in (GUEST_PARENT, *python.path)],
        "readable": [str(python.executable), *library, str(GUEST_PARENT / "guest"), *python.objects],
    }
    return json.dumps(rules).encode("utf-8")


def _library_folder() -> str:
    spec = importlib.util.find_spec("landlockpy")
    if spec is None or spec.origin is None:
        raise ImportError("landlockpy is not installed: `pip install '.[landlock]'` in the clone.")
    return str(Path(spec.origin).parent.parent)
