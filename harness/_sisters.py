"""The five packages of the harness have everyday names: another file of such a name may stand in the way."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

SISTERS = ("methods", "tasks", "results", "reports")
HOME = Path(__file__).resolve().parent.parent


def check_sisters() -> None:
    """See that `methods`, `tasks`, `results` and `reports` are the harness's own.

    A mere folder of such a name, like the `results/` that runs are written to, is passed over.

    Raises:
        ImportError: one is another module; the message names its file and what to do.
    """
    for name in SISTERS:
        places, is_folder = _found(name)
        if is_folder and HOME / name not in places:
            # Python prefers a folder in the working directory to a package that an editable installation points to.
            sys.path.insert(0, str(HOME))
            places, _ = _found(name)
        if not places:
            raise ImportError(f"The harness's package {name} is missing: install the harness again.")
        if HOME / name not in places:
            raise ImportError(
                f"{places[0]} stands in the way of the harness's own package {name}: rename it, or start Python from "
                "another folder."
            )


def _found(name: str) -> tuple[list[Path], bool]:
    """Where a module of that name would come from, and whether it is a folder without code of its own."""
    spec = find_spec(name)
    if spec is None:
        return [], False
    places = list(spec.submodule_search_locations or [])
    return [Path(place).resolve() for place in places or [spec.origin or name]], spec.origin is None and bool(places)
