"""Hooks of the site: the documents of the repository's root become pages, and links into its sources become names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the documents of the root."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Point links at pages of the site; a file that is not on it is named, since the site does not hold the sources.

    Raises:
        PluginError: a link leads nowhere.
    """
    sources = {target: source for source, target in PAGES.items()}
    here = page.file.src_uri
    file = ROOT / sources[here] if here in sources else ROOT / "docs" / here

    def moved(match: re.Match[str]) -> str:
        text, link = match.groups()
        path, mark, anchor = link.partition("#")
        if not path or re.match(r"\w+:", link):
            return match.group(0)
        target = (file.parent / path).resolve()
        if not target.exists():
            raise PluginError(f"{file.relative_to(ROOT)}: {link} leads nowhere.")
        inside = target.relative_to(ROOT).as_posix()
        page_of = PAGES.get(inside) or inside.removeprefix("docs/")
        if files.get_file_from_path(page_of) is None or not (inside in PAGES or inside.startswith("docs/")):
            return (
                f"{text} (`{inside}`)" if text.strip("`") not in (inside, inside.rpartition("/")[2]) else f"`{inside}`"
            )
        up = "../" * here.count("/")
        return f"[{text}]({up}{page_of}{mark}{anchor})"

    return LINK.sub(moved, markdown)
