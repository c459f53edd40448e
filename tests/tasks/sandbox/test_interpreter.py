"""What candidates may read of the interpreter: its standard library, and the shared objects that it loads."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.sandbox import Outcome, Program, Verdict, bubblewrap, canary, evaluate_programs
from tasks.sandbox.interpreter import GUEST_PARENT, Interpreter, Role, guest_command, interpreter
from tasks.sandbox.level import Level


@pytest.fixture
def prefix(tmp_path: Path) -> Interpreter:
    """An interpreter's prefix with what others keep there."""
    for name in ("bin/python3", "bin/pip", "etc/jupyter/token", "envs/other/secret", "lib/python3/os.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    library = tmp_path / "lib/python3"
    for name in ("json/__init__.py", "site-packages/torch.py", "lib-dynload/_csv.so", "lib-dynload/notes", "keys.txt"):
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_text("x")
    path = (library, library / "lib-dynload")
    return Interpreter(tmp_path / "bin/python3", tmp_path, path, frozenset({"os", "json", "_csv"}), ("/lib/libc.so.6",))


def names(python: Interpreter, belonging: bool) -> list[str]:
    return sorted(Path(entry.path).name for entry in python.listing() if python.belongs(entry) is belonging)


def test_only_the_standard_library_belongs(prefix: Interpreter) -> None:
    assert names(prefix, belonging=True) == ["_csv.so", "json", "os.py"]
    assert names(prefix, belonging=False) == ["keys.txt", "notes", "site-packages"]


def test_strangers_are_covered_in_an_empty_root(prefix: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    library = prefix.path[0]
    (library / "sitecustomize.py").symlink_to("/etc/python3/sitecustomize.py")  # as on Debian
    monkeypatch.setattr(bubblewrap, "interpreter", lambda: prefix)
    arguments = " ".join(bubblewrap.root("/box"))
    assert f"--ro-bind {library} /box/python/lib/python3" in arguments
    assert "--tmpfs /box/python/lib/python3/site-packages --remount-ro" in arguments
    assert "--ro-bind /dev/null /box/python/lib/python3/keys.txt" in arguments
    assert "sitecustomize" not in arguments
    assert "etc/jupyter" not in arguments


def test_what_is_put_there_later_is_a_stranger_too(prefix: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a root that was built before, with a listing from then."""
    monkeypatch.setattr(bubblewrap, "interpreter", lambda: prefix)
    assert "token" not in " ".join(bubblewrap.root("/box"))
    (prefix.path[1] / "token").write_text("x")
    assert "token" in names(prefix, belonging=False)
    assert "--ro-bind /dev/null /box/python/lib/python3/lib-dynload/token" in " ".join(bubblewrap.root("/box"))


def test_a_listing_is_told_by_what_it_lists(prefix: Interpreter) -> None:
    """Times of change are not enough: a folder can change twice within one tick of the clock."""
    before, folder = set(prefix.listing()), prefix.path[0]
    times = folder.stat()
    (folder / "keys.txt").rename(folder / "keys.old")
    os.utime(folder, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert {Path(entry.path).name for entry in before ^ set(prefix.listing())} == {"keys.txt", "keys.old"}


def test_a_root_is_made_of_the_listing_that_it_is_kept_for(
    prefix: Interpreter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else one that was made while a file came and went would be taken for the folder without it, for good."""
    listing, place = prefix.listing(), prefix.path[0] / "token"
    monkeypatch.setattr(Interpreter, "listing", lambda _: place.write_text("x") and listing)
    monkeypatch.setattr(bubblewrap, "interpreter", lambda: prefix)
    assert "token" not in " ".join(bubblewrap.root("/box"))


@pytest.mark.parametrize("role", ["worker", "judge"])
def test_what_starts_for_every_program_loads_little_and_compiles_nothing(role: Role) -> None:
    command = guest_command(sys.executable, str(GUEST_PARENT), role, "{}")
    assert {"-S", "-B"} <= set(command)
    code = f"import sys; sys.path.insert(0, {str(GUEST_PARENT)!r}); from guest import {role}; print(*sys.modules)"
    started = [sys.executable, "-v", *command[1:4], "-c", code]
    ran = subprocess.run(started, check=True, capture_output=True, text=True)
    assert not {"typing", "dataclasses", "inspect", "tasks", "harness"} & set(ran.stdout.split())
    loaded = [line for line in ran.stderr.splitlines() if "guest" in line and "code object from" in line]
    assert len(loaded) >= 5
    assert all(".pyc" in line for line in loaded), loaded


def test_the_canary_tries_what_lies_beside_the_interpreter(prefix: Interpreter) -> None:
    names = {Path(path).name for path in prefix.outsiders()}
    assert names == {"pip", "token", "secret", "torch.py", "keys.txt", "notes"}


def test_the_prefix_is_not_named_inside(prefix: Interpreter) -> None:
    assert prefix.inside(prefix.executable) == "/python/bin/python3"
    assert prefix.inside("/lib/libc.so.6") == "/lib/libc.so.6"
    assert prefix.library_path == "/lib"


def test_the_running_interpreter_is_understood() -> None:
    python = interpreter()
    assert {"json", "os.py", "collections"} <= set(names(python, belonging=True))
    assert not any("packages" in name for name in names(python, belonging=True))
    assert any("libc." in name or "musl" in name for name in python.objects) or sys.platform != "linux"
    assert python.outsiders()


SECRET = "it is a secret"


@pytest.fixture
def secrets() -> Iterator[list[str]]:
    """Files of mode 0600 in the prefix and in the library's own folder, as the owner of both would leave them."""
    python = interpreter()
    paths = [python.prefix / "etc" / "canary" / "token", python.path[0] / "canary-token.txt"]
    made = []
    for path in paths:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(SECRET)
        except OSError:
            continue
        path.chmod(0o600)
        made.append(path)
    if not made:
        pytest.skip("the interpreter's prefix is not ours to write")
    yield [place for path in made for place in (str(path), python.inside(path))]
    for path in made:
        path.unlink()
    if paths[0].parent.is_dir():
        paths[0].parent.rmdir()


def read(level: Level, paths: list[str]) -> Verdict:
    code = f"""
def attack():
    found = []
    for path in {paths!r}:
        try:
            found.append(open(path).read())
        except OSError:
            continue
    return found
"""
    return evaluate_programs([Program("secret", code, f"assert {SECRET!r} in attack()", ("attack",))], level=level)[0]


@pytest.mark.system
def test_a_private_file_in_the_prefix_is_not_readable(level: Level, secrets: list[str]) -> None:
    expected = Outcome.PASSED if level.name == "process" else Outcome.FAILED
    assert read(level, secrets).outcome is expected


@pytest.mark.system
def test_the_probe_finds_a_readable_prefix() -> None:
    from tasks.sandbox.levels import named

    verdict = evaluate_programs([canary.program({"prefix"})], level=named("process"))[0]
    assert "it does not refuse prefix" in verdict.detail


@pytest.mark.system
def test_every_module_of_the_library_can_be_imported(level: Level) -> None:
    """But those that open windows, or that the interpreter was built without."""
    code = """
import importlib.util, sys

LEFT_OUT = {"antigravity", "this", "tkinter", "_tkinter", "turtle", "turtledemo", "idlelib", "msilib", "winreg"}

def attack():
    lost = []
    for name in sorted(sys.stdlib_module_names - LEFT_OUT):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name or importlib.util.find_spec(name) is not None:
                lost.append(f"{name}: {error}")
        except ImportError as error:
            lost.append(f"{name}: {error}")
    return lost
"""
    tests = "lost = attack()\nassert not lost, lost"
    verdict = evaluate_programs([Program("modules", code, tests, ("attack",))], level=level)[0]
    assert verdict.outcome is Outcome.PASSED, verdict
