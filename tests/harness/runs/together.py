"""Some commands at once, each in a process of its own: `python -m tests.harness.runs.together FOLDER LINES`.

LINES is JSON, a list of the command line's arguments for each. What they need is imported once, in eight seconds, and a
fork of that process takes each. FOLDER takes what each says, as `0.txt`, `1.txt`, ...; exit codes are printed as JSON.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from pathlib import Path

from tests.harness.runs.kills import HEAVY

ALSO = ("accelerate", "lm_eval.api.task", "sklearn.metrics", "tasks.lm_eval_adapter",
        "transformers.models.llama.modeling_llama")  # fmt: skip


def main() -> None:
    """Start all of them, and wait for each."""
    folder, lines = Path(sys.argv[1]), json.loads(sys.argv[2])
    for name in (*HEAVY, *ALSO):
        importlib.import_module(name)
    from harness.cli import main as harness

    gc.freeze()  # what the fits of each fork would look through, and copy by that
    children = []
    for number, arguments in enumerate(lines):
        if (child := os.fork()) == 0:
            said = os.open(folder / f"{number}.txt", os.O_CREAT | os.O_WRONLY)
            os.dup2(said, 1)
            os.dup2(said, 2)
            sys.argv = ["harness", *arguments]
            harness()
            return
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.stdout.write(json.dumps(codes) + "\n")


if __name__ == "__main__":
    main()
