"""Restricts itself with Landlock, then becomes the command it was given. Run as a script by level `landlock`."""

from __future__ import annotations

import ctypes
import json
import os
import sys
import types


def _bare(name: str, **contents: object) -> types.ModuleType:
    """Put a module that is not imported in the place of one that would be."""
    sys.modules[name] = module = types.ModuleType(name)
    vars(module).update(contents)
    return module


def main() -> None:
    with open(int(sys.argv[1]), "rb") as source:
        rules = json.load(source)
    sys.path.append(rules["library"])
    # What is not needed takes two thirds of the time, twice for every program: the library's own tests, and the search
    # for the C library, which is loaded already and for which a compiler would be started.
    ctypes.util = _bare("ctypes.util", find_library=lambda name: None)
    _bare("landlockpy.testing")
    from landlockpy import AccessFS, Ruleset, Scope

    read = AccessFS.READ_FILE | AccessFS.READ_DIR | AccessFS.EXECUTE
    with Ruleset(scoped=Scope.SIGNAL | Scope.ABSTRACT_UNIX_SOCKET) as ruleset:
        for path in rules["listed"]:
            ruleset.allow_path(path, AccessFS.READ_DIR)
        for path in rules["readable"]:
            ruleset.allow_path(path, read if os.path.isdir(path) else read & ~AccessFS.READ_DIR)
        for device in ("/dev/null", "/dev/zero", "/dev/urandom"):
            ruleset.allow_path(device, AccessFS.READ_FILE | AccessFS.WRITE_FILE)
        ruleset.restrict()
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
