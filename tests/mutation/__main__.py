"""How many mutants of three areas the suite kills: `python -m tests.mutation --sample 400`.

mutmut makes the mutants, knows which tests run which function, and forks a process per mutant; this samples and counts.
A mutant that runs out of time is killed; one whose function no selected test runs has survived.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MUTANTS = ROOT / "mutants"
AREAS = {
    "methods/routing": ("methods.routing.*",),
    "reports/statistics": ("reports.statistics.*",),
    "the store": (
        *(f"results.{name}.*" for name in ("store", "stages", "claims", "remote")),
        *(
            f"results.ground.{name}.*"
            for name in ("files", "locks", "owners", "damage", "digest", "reading", "network")
        ),
    ),
}
KINDS = {
    "killed": (1, 3),  # a test failed; pytest itself did
    "timeout": (24, -24, 36, 152, 255),
    "survived": (0,),
    "no test": (5, 33),
}


def verdicts() -> dict[str, int | None]:
    """Exit code of each mutant's tests by its name, none before they ran."""
    found: dict[str, int | None] = {}
    for file in sorted(MUTANTS.rglob("*.meta")):
        found |= json.loads(file.read_text())["exit_code_by_key"]
    return found


def mutmut(*names: str, workers: int) -> None:
    """Runs mutants in a folder of their own, a copy of the code; processes that tests start import it too."""
    MUTANTS.mkdir(exist_ok=True)  # Python remembers of a folder that is not there when it starts that there is none
    environment = os.environ | {"PYTHONPATH": str(MUTANTS), "OMP_NUM_THREADS": "1"}
    command = [str(Path(sys.executable).parent / "mutmut"), "run", "--max-children", str(workers), *names]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


def of_area(names: Iterable[str], area: str) -> list[str]:
    """Those of an area, sorted."""
    return sorted(name for name in names if any(fnmatch.fnmatch(name, pattern) for pattern in AREAS[area]))


def sample(names: list[str], size: int | None, seed: int) -> list[str]:
    """At random without replacement; all where there are fewer. What other mutants there are moves none of them."""
    drawn = sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    return sorted(drawn[:size])


def kind(code: int | None) -> str:
    return next((name for name, codes in KINDS.items() if code in codes), "other")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--area", choices=AREAS, action="append", help="default: all three")
    parser.add_argument("--sample", type=int, help="mutants of each area; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--survivors", action="store_true", help="run again only what survived of the sample")
    given = parser.parse_args()

    mutmut("results.ground.digest.x_text_sha256__*", workers=given.workers)  # makes all mutants, runs one
    before = verdicts()
    chosen = {area: sample(of_area(before, area), given.sample, given.seed) for area in given.area or AREAS}
    run = [
        name
        for names in chosen.values()
        for name in names
        if not given.survivors or kind(before[name]) not in ("killed", "timeout")
    ]
    if run:
        mutmut(*run, workers=given.workers)
    report(chosen)


def report(chosen: dict[str, list[str]]) -> None:
    """Prints each survivor's name (`mutmut show NAME` has its change), then a row for each area."""
    from reports.statistics import wilson

    after = verdicts()
    rows = []
    for area, names in chosen.items():
        kinds = Counter(kind(after[name]) for name in names)
        for name in names:
            if kind(after[name]) not in ("killed", "timeout"):
                say(f"{kind(after[name]):9}{name}")
        killed = kinds["killed"] + kinds["timeout"]
        low, high = wilson(killed, len(names))
        counts = "".join(f"{kinds[name]:>10}" for name in (*KINDS, "other"))
        share = f"{killed / len(names):8.1%}  ({low:.1%} to {high:.1%})"
        rows.append(f"{area:20}{len(of_area(after, area)):>8}{len(names):>8}{counts}{share}")
    heads = "".join(f"{name:>10}" for name in (*KINDS, "other"))
    say(f"{'area':20}{'mutants':>8}{'tried':>8}{heads}{'killed':>8}  (95 % interval, Wilson)")
    for row in rows:
        say(row)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
