"""Everything that results and reports read at run time is declared in pyproject and so lands in the wheel."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_packages_and_their_data_are_declared() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    for top in ("results", "reports"):
        for init in (ROOT / top).rglob("__init__.py"):
            package = ".".join(init.parent.relative_to(ROOT).parts)
            assert package in declared["packages"]
            patterns = declared["package-data"].get(package, [])
            for path in init.parent.iterdir():
                if path.is_file() and path.suffix != ".py":
                    assert any(path.match(pattern) for pattern in patterns), path
