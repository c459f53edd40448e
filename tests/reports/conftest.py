"""The factory of synthetic records, and a run folder made of them."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from results.schema import Command, Item, PlannedCell, Record, RunInfo
from results.store import RunFolder


def _load_factory() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reports_factory", Path(__file__).with_name("factory.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["reports_factory"] = module
    spec.loader.exec_module(module)
    return module


_factory = _load_factory()


@pytest.fixture(scope="session")
def factory() -> ModuleType:
    """`make_record`, `make_items`, `make_grid`, ... of factory.py."""
    return _factory


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[Sequence[Record], dict[str, list[Item]]], Path]:
    """Writes records and items as a run and returns its folder."""
    return lambda records, items: write_run(tmp_path / "run", records, items)


@pytest.fixture(scope="module")
def stored_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`stored` for runs that all tests of a module only read."""
    return lambda records, items: write_run(tmp_path_factory.mktemp("run"), records, items)


def write_run(path: Path, records: Sequence[Record], items: dict[str, list[Item]]) -> Path:
    """A run folder with these cells as its plan."""
    cells = [PlannedCell(cell=r.cell, method=r.spec.method, task=r.spec.task, seed=r.spec.seed) for r in records]
    info = RunInfo(name="demo", commands=[Command(time="2026-01-01T00:00:00+00:00")], cells=cells)
    run = RunFolder.create(path, info)
    for record in records:
        run.write_cell(record, items.get(record.cell, []))
    return run.path


@pytest.fixture
def compile_latex(tmp_path: Path) -> Callable[[str], Path]:
    """Compiles a document with latexmk and pdflatex; complaints about characters or overfull boxes fail."""

    def compiled(source: str) -> Path:
        for program in ("latexmk", "pdflatex"):
            assert shutil.which(program), f"install latexmk texlive-latex-recommended lmodern: no {program}"
        (tmp_path / "document.tex").write_text(source, encoding="utf-8")
        command = ["latexmk", "-pdf", "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=180)
        log = (tmp_path / "document.log").read_text(errors="replace")
        assert done.returncode == 0, log[-3000:]
        for complaint in ("Missing character", "Overfull", "Float too large", "undefined"):
            assert complaint not in log, log[log.index(complaint) - 500 :][:2000]
        return tmp_path / "document.pdf"

    return compiled
