"""What documents promise about themselves: lengths, links, and lines that a user may copy."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and the site make them."""
    found = set()
    for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE):
        found.add(re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-"))
    return found


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 1200


def test_the_readme_counts_what_there_is() -> None:
    from methods import registry as methods
    from tasks import registry as tasks

    counted = f"{len(methods.names())} methods, {len(tasks.names())} tasks"
    assert counted in " ".join((ROOT / "README.md").read_text().split())


def test_the_readme_leads_to_every_page() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in LINK.findall((ROOT / "README.md").read_text())}
    assert {page for page in (ROOT / "docs").glob("*.md") if page.name != "index.md"} <= linked


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(re.sub(r"`[^`]*`", "", page.read_text())):
        if re.match(r"\w+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_nothing_to_copy_needs_what_is_not_there(page: Path) -> None:
    """Extras come from the clone until a package is published; user code imports `harness` alone."""
    text = page.read_text()
    assert "pip install lora-harness" not in text
    assert "pip install 'lora-harness" not in text
    # Who writes a method imports what methods are made of.
    if page.name not in ("CONTRIBUTING.md", "extending.md"):
        assert not re.search(r"^\s*from (methods|tasks|results|reports)[\w.]* import ", text, re.MULTILINE)
        assert not re.search(r"\bimport (methods|tasks|results|reports)\b", text)


def drawing() -> Any:
    spec = importlib.util.spec_from_file_location("packages", ROOT / "docs" / "site" / "packages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_of_the_packages_is_that_of_the_sources() -> None:
    """Where this fails, run `python docs/site/packages.py`."""
    module = drawing()
    assert (ROOT / "docs" / "packages.svg").read_text() == module.svg()
    assert module.arrows() == set(module.ARROWS)


def test_the_picture_refuses_an_arrow_that_nobody_has_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = drawing()
    monkeypatch.setattr(module, "arrows", lambda: {("results", "harness")})
    with pytest.raises(KeyError):
        module.svg()


def test_every_page_is_on_the_site() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in sorted((ROOT / "docs").rglob("*.md")):
        assert f": {page.relative_to(ROOT / 'docs')}" in navigation, page


def test_the_citation_has_the_version_of_the_package() -> None:
    import tomllib

    import yaml

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == package["version"]
    assert citation["license"] == package["license"]


def test_the_judge_is_reached_through_harness() -> None:
    import harness
    from tasks import judge

    assert harness.judge is judge
    assert "from harness import judge" in (ROOT / "docs" / "judge.md").read_text()
    with pytest.raises(AttributeError, match="nope"):
        harness.nope  # noqa: B018
