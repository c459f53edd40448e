"""Rows that share a passage, a sentence or a question: they stay in one part, and count as one cluster in tests."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from results.ground.digest import row_digest
from tasks.base import Doc, Part
from tasks.wording import normalised


def link(value: Any) -> str:
    """A text by which rows are linked: wording alone, whatever its case, spaces, accents and punctuation.

    Punctuation counts where there is nothing else. Empty for an empty text, which links nothing.
    """
    whole = normalised(value)
    plain = unicodedata.normalize("NFKD", whole)
    return " ".join(re.sub(r"[^\w\s]", "", plain).split()) or whole


def components(links: Sequence[Iterable[Hashable]]) -> list[int]:
    """Connected components: rows with a common link are in one, and so are rows that others connect.

    Returns:
        For each row the number of the first row of its component.
    """
    root = list(range(len(links)))

    def find(row: int) -> int:
        while root[row] != row:
            root[row] = root[root[row]]
            row = root[row]
        return row

    first: dict[Hashable, int] = {}
    for row, own in enumerate(links):
        for one in own:
            a, b = find(first.setdefault(one, row)), find(row)
            root[max(a, b)] = min(a, b)
    return [find(row) for row in range(len(links))]


def clusters(docs: Sequence[Doc], links: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The group of every row that is not alone in its component.

    Args:
        docs: rows of one part.
        links: of each row, by its id.

    Returns:
        A name by id: the hash of the component's least link, which no order of rows changes.
    """
    labels = components([links[doc.id] for doc in docs])
    sizes = Counter(labels)
    least: dict[int, str] = {}
    for doc, label in zip(docs, labels, strict=True):
        if sizes[label] > 1:
            own = min(links[doc.id])
            least[label] = min(least.get(label, own), own)
    return {doc.id: row_digest(least[label]) for doc, label in zip(docs, labels, strict=True) if sizes[label] > 1}


def overlaps(
    parts: Mapping[Part, Sequence[Doc]], links: Mapping[str, tuple[str, ...]], columns: Sequence[str]
) -> list[str]:
    """Sentences on evaluation rows that share a column with rows of other parts; none where they share nothing.

    What is drawn by a hash shares nothing; official splits are kept as published, and may.
    """
    rows, found = parts["eval"], []
    what = " or ".join(columns)
    others: tuple[tuple[str, tuple[Part, ...]], ...] = (
        ("training", ("expert-train", "router-train")),
        ("dev", ("dev",)),
    )
    for name, members in others:
        known = {one for part in members for doc in parts[part] for one in links[doc.id]}
        shared = sum(not known.isdisjoint(links[doc.id]) for doc in rows)
        if shared:
            found.append(
                f"{shared:,} of {len(rows):,} evaluated rows ({100 * shared / len(rows):.1f} %) share their {what} "
                f"with {name} rows, as published: official splits are kept."
            )
    return found
