"""The Python that candidates run in: the one that runs the harness, without its installed packages."""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Role = Literal["worker", "judge"]

GUEST_PARENT = Path(__file__).resolve().parent
"""The folder from which the package `guest` is imported."""

INSIDE_PYTHON = "/python"
INSIDE_GUEST = "/harness"

START = "import sys; sys.path.insert(0, sys.argv[1]); from guest import {role}; {role}.main()"


@dataclass(frozen=True)
class Interpreter:
    """Paths of the base interpreter (outside any virtual environment)."""

    executable: Path
    prefix: Path

    @property
    def in_usr(self) -> bool:
        return self.prefix == Path("/usr")

    @property
    def inside(self) -> str:
        """Where the executable is in an empty root."""
        if self.in_usr:
            return str(self.executable)
        return f"{INSIDE_PYTHON}/{self.executable.relative_to(self.prefix)}"

    @property
    def packages(self) -> list[Path]:
        """Folders of installed packages under the prefix, which candidates do not get to see."""
        places = self.prefix.glob(f"{sys.platlibdir}/python*/*-packages")
        return [place for place in places if place.is_dir()]


def interpreter() -> Interpreter:
    base = getattr(sys, "_base_executable", sys.executable)
    prefix = Path(os.path.realpath(sys.base_prefix))
    executable = Path(os.path.realpath(base))
    if not executable.is_relative_to(prefix):
        executable = prefix / "bin" / f"python{sysconfig.get_python_version()}"
    return Interpreter(executable, prefix)


def guest_command(executable: str, guest_parent: str, role: Role, config: str) -> list[str]:
    """Isolated mode, no site packages, no bytecode written."""
    return [executable, "-I", "-S", "-B", "-c", START.format(role=role), guest_parent, config]
