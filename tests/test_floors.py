"""What pyproject.toml allows is what is tested: its floors by `.ci/floors`, the newest by `make test`."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
DEPENDENCIES = [
    Requirement(text) for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
]


def pins(name: str) -> dict[str, Version]:
    lines = (line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#"))
    return {
        canonicalize_name(package): Version(version) for package, _, version in (line.partition("==") for line in lines)
    }


@pytest.mark.parametrize("requirement", DEPENDENCIES, ids=[one.name for one in DEPENDENCIES])
def test_the_floor_of_a_requirement_is_the_version_that_is_tested(requirement: Requirement) -> None:
    (floor,) = [Version(one.version) for one in requirement.specifier if one.operator == ">="]
    assert pins("constraints-floor.txt")[canonicalize_name(requirement.name)] == floor


@pytest.mark.parametrize("requirement", DEPENDENCIES, ids=[one.name for one in DEPENDENCIES])
def test_the_pinned_version_is_allowed(requirement: Requirement) -> None:
    assert pins("constraints.txt")[canonicalize_name(requirement.name)] in requirement.specifier
