"""Names, cards, variants, and tasks from outside."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from results.ground.plugins import PluginError
from tasks import registry
from tasks.card import CardError, read_card
from tasks.card_conformance import check_card


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from tasks import registry; import tasks.sources, tasks.base; registry.names(); "
        "print([m for m in ('torch', 'transformers', 'datasets', 'lm_eval', 'numpy') if m in sys.modules])"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert outcome.stdout.strip() == "[]"


@pytest.mark.parametrize("name", registry.names())
def test_every_card_is_sound(name: str) -> None:
    check_card(registry.card(name))


def test_unknown_names_offer_the_nearest() -> None:
    for call in (registry.card, registry.create, registry.parse):
        with pytest.raises(registry.UnknownTask, match="Unknown task 'gsm8': did you mean gsm8k"):
            call("gsm8")


def test_variants_are_read_and_written() -> None:
    assert registry.parse("gsm8k") == ("gsm8k", None)
    assert registry.parse("gsm8k@5-shot") == ("gsm8k", 5)
    assert registry.display("gsm8k", 5) == "gsm8k@5-shot"
    assert registry.display("gsm8k", None) == registry.display("gsm8k", registry.card("gsm8k").shots) == "gsm8k"
    for broken in ("gsm8k@", "gsm8k@five-shot", "gsm8k@5", "@5-shot", "gsm8k @5-shot", ""):
        with pytest.raises(registry.UnknownTask):
            registry.parse(broken)


CARD = """---
name: {name}
summary: A task from outside.
family: other
class: tasks.arc:Arc
set: mine
config: default
columns: [id]
inputs: [id]
splits: {{test: 1}}
roles: {{eval: test}}
licence: MIT
expert: mine
metrics: [acc]
primary: acc
sources: [dir]
---
Body.
"""


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Install a package with one card behind an entry point."""

    def install(name: str, target: str = "tasks.arc:Arc") -> None:
        package = tmp_path / f"outside_{name.replace('-', '_')}"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "card.md").write_text(CARD.format(name=name).replace("tasks.arc:Arc", target))
        point = metadata.EntryPoint("any", package.name, registry.ENTRY_POINTS)
        monkeypatch.setattr(metadata, "entry_points", lambda group: [point])
        registry._read.cache_clear()
        monkeypatch.delitem(sys.modules, package.name, raising=False)

    monkeypatch.syspath_prepend(str(tmp_path))
    yield install
    monkeypatch.undo()
    registry._read.cache_clear()


def test_a_package_adds_a_task(outside) -> None:  # type: ignore[no-untyped-def]
    outside("from-outside")
    assert "from-outside" in registry.names()
    assert registry.create("from-outside").expert == "mine"


def test_a_name_of_ours_is_ours(outside, capsys) -> None:  # type: ignore[no-untyped-def]
    outside("gsm8k")
    assert registry.card("gsm8k").target != "tasks.arc:Arc"
    assert "'gsm8k' of the package outside_gsm8k is left out" in capsys.readouterr().err


def test_a_broken_module_is_the_packages(outside) -> None:  # type: ignore[no-untyped-def]
    outside("from-outside", target="nowhere:Task")
    with pytest.raises(PluginError, match=r"'from-outside' of the package outside_from_outside cannot be used"):
        registry.create("from-outside")


@pytest.mark.parametrize(
    "text", ["no front matter", "---\nname: [\n---\nbody", "---\nname: x\n---\nbody", CARD + "\n---\n"]
)
def test_a_broken_card_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "broken.md"
    file.write_text(text)
    if text.startswith(CARD):
        file.write_text(CARD.format(name="x").replace("licence: MIT", "licence: MIT\nunheard_of: 1"))
    with pytest.raises(CardError, match=r"broken\.md"):
        read_card(file)
