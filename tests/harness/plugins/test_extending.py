"""`docs/extending.md` does what it says: its files go into a folder outside the clone, its commands are run."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from subprocess import CompletedProcess

import pytest

import methods.registry
import tasks.registry
from tests.harness.runs.command import in_own_process, printed

ROOT = Path(__file__).resolve().parent.parent.parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def outside(arguments: list[str], folder: Path, stages: Path) -> CompletedProcess[str]:
    """A command in a process of its own, which starts in a folder."""
    line, environment = in_own_process(*arguments, stages=stages)
    environment |= {"PYTHONPATH": str(ROOT)}
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300)


def run(arguments: list[str], folder: Path, stages: Path) -> CompletedProcess[str]:
    """A command in this process, which knows nothing of earlier ones' files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for registry in (methods.registry, tasks.registry):
            patch.setattr(registry, "_BROUGHT", {})
        return printed(*arguments, stages=stages)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the clone with the page's two files."""
    made = tmp_path_factory.mktemp("outside")
    (made / "my_router.py").write_text(blocks("python")[0])
    (made / "my_quiz.jsonl").write_text(blocks("json")[0])
    return made


@pytest.mark.assets
def test_the_pages_commands_run_from_outside(folder: Path, tmp_path: Path, tiny_model: Path) -> None:
    stages = tmp_path / "stages"
    check, show, compare = (shlex.split(line)[1:] for line in blocks("sh")[0].strip().splitlines())
    assert "ok      method my_router on llama" in run(check, folder, stages).stdout
    assert run(show, folder, stages).stdout.startswith("my_quiz: 10 questions of my_quiz.jsonl, 3 choices.")
    output = tmp_path / "run"
    done = outside([*compare, "--model", str(tiny_model), "--output", str(output)], folder, stages)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^my_router\b", done.stdout, re.MULTILINE), done.stdout
    assert "my_quiz" in done.stdout
    # Resumed from another folder by its own file: nothing is left to do.
    again = run(["run", "--preset", str(output / "run.yaml"), "--plan"], tmp_path, stages)
    assert again.returncode == 0, again.stderr
    assert " 0 jobs left" in again.stdout
    # An edited method never meets old results; what does not depend on it stays.
    (folder / "my_router.py").write_text(blocks("python")[0] + "\n# edited\n")
    edited = run([*compare, "--model", str(tiny_model), "--plan"], folder, stages)
    assert re.search(r"my_router .*to do", edited.stdout), edited.stdout
    assert re.search(r"uniform .*(finished|cached)", edited.stdout), edited.stdout
