"""Rubrics: versioned files that say what a judge is told.

A rubric is `rubrics/<name>-v<version>.md`: front matter between `---` lines (`name`, `version`, `title`), then a
`# System` and a `# User` section. The user section holds the places `{question}`, `{reference}` and `{answer}`; the
line with `{reference}` and its heading stand between `{{#reference}}` and `{{/reference}}` and fall away without one.
A published file is never edited: a change of wording is a new version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from results.ground.digest import row_digest
from results.ground.front_matter import CardError, split
from results.ground.names import unknown

_FILE = re.compile(r"(?P<name>[a-z0-9-]+)-v(?P<version>\d+)\.md")
_PLACE = re.compile(r"\{(question|reference|answer)\}")
_FENCED = re.compile(r"<(\w+)>\n\{answer\}\n</\1>")
"""The place of the answer between its tags."""
_OPTIONAL = re.compile(r"\{\{#reference\}\}\n?(.*?)\{\{/reference\}\}\n?", re.DOTALL)


@dataclass(frozen=True)
class Rubric:
    """A judge's instructions. `digest` names the text itself, so that an edited file never meets old verdicts."""

    name: str
    version: int
    title: str
    system: str
    user: str

    @property
    def label(self) -> str:
        """Name and version, e.g. `medical-v1`."""
        return f"{self.name}-v{self.version}"

    @property
    def digest(self) -> str:
        """Hash of everything a judge reads."""
        return row_digest([self.system, self.user], 16)

    def messages(
        self, question: str, answer: str, reference: str | None, fence: str | None = None
    ) -> list[dict[str, str]]:
        """Chat messages for one answer. Texts are put in as they are: braces in them mean nothing.

        Args:
            question: what the candidate was asked.
            answer: the candidate's.
            reference: the gold answer, where there is one.
            fence: a word that the answer cannot know; it becomes part of the two tags around the answer, so that
                nothing in the answer can end it. None leaves the tags as they are in the file.
        """
        user = _OPTIONAL.sub(r"\1" if reference is not None else "", self.user)
        if fence is not None:
            user = _FENCED.sub(rf"<\1-{fence}>\n{{answer}}\n</\1-{fence}>", user)
        values = {"question": question, "answer": answer, "reference": reference or ""}
        filled = _PLACE.sub(lambda match: values[match[1]], user)
        filled = filled.encode("utf-8", "replace").decode()  # a model may emit half a surrogate pair
        return [{"role": "system", "content": self.system}, {"role": "user", "content": filled}]


def rubric_files() -> dict[tuple[str, int], Path]:
    """All rubrics that ship, by name and version."""
    folder = Path(str(files("tasks.judge") / "rubrics"))
    found = {}
    for path in sorted(folder.glob("*.md")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise CardError(f"The rubric file {path.name} must be called <name>-v<version>.md.")
        found[match["name"], int(match["version"])] = path
    return found


@lru_cache(maxsize=32)
def load_rubric(name: str, version: int | None = None) -> Rubric:
    """A rubric by name, the newest unless a version is asked for.

    Raises:
        UnknownName: there is none of that name.
        CardError: none of that version, or the file is malformed.
    """
    available = rubric_files()
    versions = sorted(number for known, number in available if known == name)
    if not versions:
        raise unknown("rubric", name, sorted({known for known, _ in available}))
    chosen = versions[-1] if version is None else version
    if chosen not in versions:
        raise CardError(f"The rubric '{name}' has no version {chosen}: it has {', '.join(map(str, versions))}.")
    rubric = parse_rubric(available[name, chosen].read_text(encoding="utf-8"), available[name, chosen].name)
    if (rubric.name, rubric.version) != (name, chosen):
        raise CardError(f"The rubric file {name}-v{chosen}.md names itself {rubric.label}.")
    return rubric


def parse_rubric(text: str, name: str = "the rubric") -> Rubric:
    """A rubric from a file's text.

    Raises:
        CardError: front matter, a section or a place is missing.
    """
    head, system, user = parse_sections(text, name)
    for place in ("{question}", "{answer}"):
        if place not in user:
            raise CardError(f"The rubric {head['name']} lacks the place {place}.")
    if _FENCED.search(user) is None:
        raise CardError(f"The rubric {head['name']} needs {{answer}} on a line of its own between two tags.")
    return Rubric(str(head["name"]), int(head["version"]), str(head["title"]), system, user)


def parse_sections(text: str, name: str) -> tuple[dict[str, Any], str, str]:
    """Front matter, system text and user text of a file of instructions.

    Raises:
        CardError: one of the three is missing.
    """
    values, body = split(text, name)
    match = re.fullmatch(r"# System\n(.*?)\n# User\n(.*)", body, re.DOTALL)
    if match is None:
        raise CardError(f"The instructions {name} need a '# System' and a '# User' section below the front matter.")
    return values, match[1].strip(), match[2].strip()
