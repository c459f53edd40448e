"""The page that walks through the Python way in: its code runs as it stands, on a tiny model, and shows itself."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.assets, pytest.mark.model]

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "notebook.md"


def cells() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def shown(source: str, names: dict[str, Any]) -> Any:
    """Run a cell as a notebook does: the value of its last expression, if it ends in one."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(PAGE), "exec"), names)
    return eval(compile(ast.Expression(last.value), str(PAGE), "eval"), names) if last is not None else None


@pytest.mark.filterwarnings("default")
def test_the_pages_code_runs_from_top_to_bottom(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_STAGES", str(tmp_path / "stages"))
    first, *others = cells()
    assert first.count('preset="smoke"') == 1
    names: dict[str, Any] = {}
    shown(first.replace('preset="smoke"', f'preset="smoke", model={str(tiny_model)!r}'), names)
    values = [shown(cell, names) for cell in others]

    run, records, items, comparison, load, files, extended, *_ = values
    assert "<table" in run._repr_html_()
    assert list(records["method"].unique()) == ["base", "lora", "uniform", "mixer"]
    assert set(records["status"]) == {"done"}
    assert len(items) < 8
    assert "mixer − uniform" in comparison._repr_html_().replace("&#8722;", "−")
    assert "<svg" in load._repr_html_()
    assert {file.suffix for file in files} == {".tex", ".csv"}
    assert "Ours" in next(file for file in files if file.suffix == ".tex").read_text()
    assert "mixer[route.eval_k=1]" in extended._repr_html_()
    assert "base" in extended._repr_html_()
    assert "The film was" in capsys.readouterr().out
    assert not hasattr(names["base"], "lora_composed")


def test_an_option_that_tables_have_not_is_named(tmp_path: Path) -> None:
    from harness.views import View
    from results.ground.names import UnknownName

    with pytest.raises(UnknownName, match="wide"):
        View.report(View.__new__(View), wid=True)


def test_user_code_imports_harness_alone() -> None:
    ours = {"methods", "tasks", "results", "reports"}
    for cell in cells():
        modules = {
            name.partition(".")[0]
            for node in ast.walk(ast.parse(cell))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
        }
        assert not modules & ours
