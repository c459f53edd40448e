"""Draw the packages and their arrows, from the imports in the sources: `python docs/site/packages.py`.

Boxes are laid out by hand; arrows are what the sources import, so an arrow that is new has no place and is refused.
"""

from __future__ import annotations

import ast
import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "docs" / "packages.svg"
GROUND = "results.ground"

# x, y, width, height, and what is inside
BOXES: dict[str, tuple[int, int, int, int, tuple[str, ...]]] = {
    "harness": (
        20,
        20,
        920,
        104,
        (
            "command line and Python: run, open, load",
            "options → configuration → plan → engine → stages → records",
            "training, evaluation, executors, export, bench",
        ),
    ),
    "methods": (
        20,
        190,
        270,
        104,
        ("one file and one card a method", "routing: the layer that routers share", "merging, architectures, saving"),
    ),
    "tasks": (
        330,
        190,
        270,
        104,
        ("one card a task; prompts and metrics", "sources of data", "sandbox and judge"),
    ),
    "reports": (650, 190, 220, 104, ("records to tables, plots, pages", "statistics", "the paper's tables")),
    "results": (680, 350, 260, 90, ("schema of records and items", "the run's folder")),
    GROUND: (20, 506, 920, 68, ("errors, nearest names, digests, atomic files, front matter of cards, offline",)),
}
# The x at which each arrow goes straight down.
ARROWS: dict[tuple[str, str], int] = {
    ("harness", "methods"): 155,
    ("harness", "tasks"): 465,
    ("harness", "reports"): 760,
    ("harness", "results"): 905,
    ("harness", GROUND): 310,
    ("methods", GROUND): 155,
    ("tasks", GROUND): 465,
    ("reports", "results"): 775,
    ("reports", GROUND): 665,
    ("results", GROUND): 810,
}


def package(module: str) -> str | None:
    """The box that a module lies in."""
    if module == GROUND or module.startswith(f"{GROUND}."):
        return GROUND
    name = module.partition(".")[0]
    return name if name in BOXES else None


def arrows() -> set[tuple[str, str]]:
    """Which box imports which, those inside functions included."""
    found = set()
    for file in (file for name in BOXES if name != GROUND for file in sorted((ROOT / name).rglob("*.py"))):
        here = package(".".join(file.relative_to(ROOT).with_suffix("").parts))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {(here, there) for there in map(package, modules) if here and there and there != here}
    return found


def svg() -> str:
    """The picture.

    Raises:
        KeyError: the sources have an arrow that the picture has no place for.
    """
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 594" width="960" height="594" role="img" '
        'font-family="Helvetica, Arial, sans-serif" aria-label="The packages and what each imports">',
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 10 5 0 10z" fill="#455a64"/></marker></defs>',
        '<rect width="960" height="594" rx="8" fill="#ffffff"/>',
    ]
    for above, below in sorted(arrows()):
        x, (_, y, _, height, _), end = ARROWS[above, below], BOXES[above], BOXES[below][1]
        parts.append(
            f'<path d="M{x} {y + height}V{end - 2}" stroke="#455a64" stroke-width="1.6" marker-end="url(#head)"/>'
        )
    for name, (x, y, width, height, lines) in BOXES.items():
        middle = x + width / 2
        parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="#eceff7" stroke="#3f51b5"/>'
            f'<text x="{middle:g}" y="{y + 26}" font-size="17" font-weight="bold" text-anchor="middle" fill="#1a237e">'
            f"{name}</text>"
        )
        parts += [
            f'<text x="{middle:g}" y="{y + 50 + 19 * row}" font-size="12.5" text-anchor="middle" fill="#263238">'
            f"{escape(line)}</text>"
            for row, line in enumerate(lines)
        ]
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    OUTPUT.write_text(svg(), encoding="utf-8")
    sys.stdout.write(f"{OUTPUT}\n")
