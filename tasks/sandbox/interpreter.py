"""The Python that candidates run in: the one that runs the harness, its standard library, and nothing else near it.

An interpreter's prefix holds more than an interpreter: installed packages, other environments, tokens of notebooks.
So what candidates may read is a list of files: the executable, the modules that `sys.stdlib_module_names` names, and
the shared objects that these load.
"""

from __future__ import annotations

import compileall
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

Role = Literal["worker", "judge"]

GUEST_PARENT = Path(__file__).resolve().parent
"""The folder from which the package `guest` is imported."""

INSIDE_PYTHON = "/python"
INSIDE_GUEST = "/harness"

START = "import sys; sys.path.insert(0, sys.argv[1]); from guest import {role}; {role}.main()"

LOOK = """
import ctypes, glob, json, os, sys
for path in sys.path:
    for module in sorted(glob.glob(os.path.join(glob.escape(path), "*.so"))):
        if "_tkinter" in module:  # windows are none of a candidate's business, and need thirty libraries
            continue
        try:
            ctypes.CDLL(module)
        except OSError:
            pass
class Info(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("name", ctypes.c_char_p)]
names = []
Visit = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Info), ctypes.c_size_t, ctypes.c_void_p)
@Visit
def visit(info, size, data):
    names.append(os.fsdecode(info.contents.name or b""))
    return 0
ctypes.CDLL(None).dl_iterate_phdr(visit, None)
print(json.dumps({"path": sys.path, "names": sorted(sys.stdlib_module_names), "objects": names}))
"""
"""Run by the base interpreter, without site packages: where its modules are, and what loading all of them loads."""


class Entry(NamedTuple):
    """What lies in a folder of the library; a link to a folder is no folder."""

    path: str
    is_folder: bool
    is_link: bool


@dataclass(frozen=True)
class Interpreter:
    """Paths of the base interpreter (outside any virtual environment)."""

    executable: Path
    prefix: Path
    path: tuple[Path, ...]
    """Folders of the standard library."""
    names: frozenset[str]
    """Top-level modules of the standard library."""
    objects: tuple[str, ...]
    """Shared objects, by the names under which the loader looks for them."""

    @property
    def in_usr(self) -> bool:
        return self.prefix == Path("/usr")

    def inside(self, path: Path | str) -> str:
        """Where a file of the interpreter is in an empty root: the prefix's own name is not shown."""
        if not self.in_usr and Path(path).is_relative_to(self.prefix):
            return f"{INSIDE_PYTHON}/{Path(path).relative_to(self.prefix)}"
        return str(path)

    def listing(self) -> tuple[Entry, ...]:
        """What lies in the library's folders now, by name. What is made of it can be kept for as long as it is equal:
        times of change say less, since two changes within one tick of the kernel's clock have the same."""
        found = (entry for folder in self.path for entry in os.scandir(folder))
        entries = (Entry(one.path, one.is_dir(follow_symlinks=False), one.is_symlink()) for one in found)
        own = {str(folder) for folder in self.path}
        return tuple(sorted(entry for entry in entries if entry.path not in own))

    def belongs(self, entry: Entry) -> bool:
        """Whether this is of the standard library; else it is a stranger (installed packages, anything put there)."""
        folder, file = os.path.split(entry.path)
        if os.path.basename(folder) == "lib-dynload":
            return file.endswith(".so")
        name = file.partition(".")[0]
        return name in self.names or name == "__pycache__" or name.startswith("_sysconfigdata")

    @cached_property
    def library_path(self) -> str:
        """Value of LD_LIBRARY_PATH inside: there is no linker cache."""
        return ":".join(dict.fromkeys(str(Path(self.inside(name)).parent) for name in self.objects))

    def outsiders(self, most: int = 40) -> list[str]:
        """Some files of the prefix that no candidate may read: the probe tries them."""
        listing = self.listing()
        library = [entry.path for entry in listing if self.belongs(entry)]
        strangers = [Path(entry.path) for entry in listing if not self.belongs(entry)]
        own = (str(self.executable), *library, *self.objects)
        real = {os.path.realpath(path) for path in own}
        folders = [self.prefix / name for name in ("etc", "envs", "share", "bin", "include")]
        places = (*strangers, *folders)
        found = (path for place in places for path in islice(_files(place), 5) if os.path.realpath(path) not in real)
        return list(islice(found, most))


def _files(place: Path) -> Iterator[str]:
    if place.is_file():
        yield str(place)
    for folder, _, names in os.walk(place):
        yield from (os.path.join(folder, name) for name in names if os.path.isfile(os.path.join(folder, name)))


@cache
def interpreter() -> Interpreter:
    """
    Raises:
        RuntimeError: the base interpreter does not start.
    """
    prefix = Path(os.path.realpath(sys.base_prefix))
    executable = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    if not executable.is_relative_to(prefix):
        executable = prefix / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    looked = subprocess.run([str(executable), "-I", "-S", "-B", "-c", LOOK], check=False, capture_output=True, env={})
    if looked.returncode != 0:
        raise RuntimeError(f"{executable} does not start: {looked.stderr.decode(errors='replace').strip()[-200:]}")
    found = json.loads(looked.stdout)
    path = tuple(Path(os.path.realpath(folder)) for folder in found["path"] if os.path.isdir(folder))
    modules = {str(path) for folder in path for path in folder.glob("*.so")}
    objects = (name for name in found["objects"] if name.startswith("/") and os.path.realpath(name) not in modules)
    names = frozenset(found["names"])
    return Interpreter(executable, prefix, path, names, tuple(dict.fromkeys(objects)))


@cache
def _compile_guest() -> None:
    """Put bytecode beside the package `guest`, which installing a wheel does and a checkout lacks: no candidate's
    interpreter may write any, and each would compile it all. A folder that cannot be written to stays as it is."""
    compileall.compile_dir(GUEST_PARENT / "guest", quiet=2)


def guest_command(executable: str, guest_parent: str, role: Role, config: str) -> list[str]:
    """Isolated mode, no site packages, no bytecode written."""
    _compile_guest()
    return [executable, "-I", "-S", "-B", "-c", START.format(role=role), guest_parent, config]
