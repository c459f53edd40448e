"""What a generator is asked: one versioned file per kind of set, with the topics that are paired."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import product
from pathlib import Path

from results.ground.digest import row_digest, unit_interval
from results.ground.front_matter import CardError
from results.ground.names import unknown
from tasks.judge.rubric import parse_sections

_FILE = re.compile(r"(?P<kind>[a-z-]+)-v(?P<version>\d+)\.md")


@dataclass(frozen=True)
class Prompt:
    """Instructions for one kind of set. `topics` has the topics of each of the two domains, in the file's order."""

    kind: str
    version: int
    topics: dict[str, tuple[str, ...]]
    system: str
    user: str

    @property
    def digest(self) -> str:
        """Hash of everything that shapes the questions."""
        return row_digest([self.system, self.user, {name: list(names) for name, names in self.topics.items()}], 16)

    def pairs(self, batch: int, size: int) -> list[tuple[str, str]]:
        """Topic pairs of a batch: all pairs in an order by hash, `size` at a time, from the start again at the end."""
        ranked = self._ranked()
        return [ranked[(batch * size + offset) % len(ranked)] for offset in range(size)]

    def messages(self, pairs: list[tuple[str, str]]) -> list[dict[str, str]]:
        """Chat messages that ask for one question per pair."""
        listed = "\n".join(f"{number}. {first} and {second}" for number, (first, second) in enumerate(pairs, 1))
        filled = self.user.replace("{count}", str(len(pairs))).replace("{pairs}", listed)
        return [{"role": "system", "content": self.system}, {"role": "user", "content": filled}]

    def _ranked(self) -> list[tuple[str, str]]:
        first, second = self.topics.values()
        return sorted(product(first, second), key=lambda pair: unit_interval("crossdomain", self.kind, *pair))


@cache
def kinds() -> tuple[str, ...]:
    """Names of the kinds of set, which are also the names of their tasks."""
    return tuple(sorted({match["kind"] for path in _folder().glob("*.md") if (match := _FILE.fullmatch(path.name))}))


def load_prompt(kind: str) -> Prompt:
    """The newest prompt of a kind.

    Raises:
        UnknownName: there is no such kind.
        CardError: its file is malformed.
    """
    if kind not in kinds():
        raise unknown("kind of cross-domain set", kind, kinds())
    versions = {
        int(match["version"]): path
        for path in _folder().glob(f"{kind}-v*.md")
        if (match := _FILE.fullmatch(path.name)) and match["kind"] == kind
    }
    newest = versions[max(versions)]
    head, system, user = parse_sections(newest.read_text(encoding="utf-8"), newest.name)
    topics = {str(domain): tuple(map(str, names)) for domain, names in head["topics"].items()}
    if len(topics) != 2 or "{pairs}" not in user or "{count}" not in user:
        raise CardError(f"The prompt of {kind} needs two domains of topics and the places {{count}} and {{pairs}}.")
    return Prompt(kind, int(head["version"]), topics, system, user)


def _folder() -> Path:
    return Path(str(files("tasks.crossdomain") / "prompts"))
