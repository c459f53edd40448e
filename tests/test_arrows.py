"""The arrows between packages, and what must stay cheap to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("harness", "methods", "tasks", "results", "reports")
ALLOWED = {
    "harness": {"harness", "methods", "tasks", "results", "reports"},
    "methods": {"methods", "results.ground"},
    "tasks": {"tasks", "results.ground"},
    "results": {"results"},
    "results.ground": {"results.ground"},
    "reports": {"reports", "results"},
}
GROUND = tuple(f"results.ground.{file.stem}" for file in sorted((ROOT / "results" / "ground").glob("[a-z]*.py")))
HEAVY = ("torch", "transformers", "datasets", "lm_eval", "pandas", "matplotlib", "scipy")


def imported(file: Path) -> set[str]:
    """Dotted names of the modules that a file imports; `from a import b` counts as `a.b`, which may be a module."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def lies_in(module: str, packages: Iterable[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("package", list(ALLOWED))
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    files = sorted((ROOT / package.replace(".", "/")).rglob("*.py"))
    assert files
    for file in files:
        ours = {module for module in imported(file) if lies_in(module, PACKAGES)}
        strangers = {module for module in ours if not lies_in(module, ALLOWED[package])}
        assert not strangers, f"{file.relative_to(ROOT)} imports {strangers}"


@pytest.mark.parametrize("package", ["results", "reports", "tasks"])
def test_packages_without_models_never_import_torch(package: str) -> None:
    for file in sorted((ROOT / package).rglob("*.py")):
        assert not any(lies_in(module, ["torch"]) for module in imported(file)), file.relative_to(ROOT)


@pytest.mark.parametrize(
    "module", [*PACKAGES, *GROUND, "methods.registry", "tasks.registry", "harness.cli", "reports.api"]
)
def test_importing_is_light(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_every_package_folder_is_declared() -> None:
    import tomllib

    declared = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    present = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        if file.parent.name != "reference"
    }
    assert present <= declared
    assert all((ROOT / name.replace(".", "/")).is_dir() for name in declared)


def test_files_stay_readable() -> None:
    long = {
        str(file.relative_to(ROOT)): lines
        for package in (*PACKAGES, "tests", "benchmarks")
        for file in (ROOT / package).rglob("*.py")
        if (lines := len(file.read_text().splitlines())) > 400
    }
    assert not long


def modules() -> dict[str, Path]:
    """Every module of the five packages by its dotted name."""
    found = {}
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def test_no_module_imports_itself_through_others() -> None:
    """Imports inside functions and for type checkers count too: where they are needed, the shape is wrong."""
    files = modules()
    arrows: dict[str, set[str]] = {}
    for name, file in files.items():
        targets: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                full = [f"{node.module}.{alias.name}" for alias in node.names]
                targets |= {one if one in files else node.module for one in full}
        arrows[name] = (targets & files.keys()) - {name}
    # What nothing imports, or imports nothing that is left, is in no circle.
    while free := [name for name, targets in arrows.items() if not targets & arrows.keys()]:
        for name in free:
            del arrows[name]
    circle = sorted(name for name in arrows if any(name in targets for targets in arrows.values()))
    assert not circle, f"a circle among {circle}"


def test_the_engine_keeps_its_front_room_small() -> None:
    assert len(list((ROOT / "harness").glob("*.py"))) <= 20
