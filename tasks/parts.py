"""Disjoint parts: which rows train experts, which train routers, which tune, which are evaluated.

Where the official splits give a part, they decide. What they don't give is drawn by a hash of a row's normalised input
text, so a row's part does not depend on the order of rows. Rows that share a passage, a sentence or a question
(`group_by` on the card) are drawn as one, by the least text among them; a group of more rows than the smallest part
should have goes to expert-train:

- training split present: 80 % expert-train, 20 % router-train, dev from the development split; without one, 70 % / 20 %
  / 10 % dev;
- no training split but a development split beside the evaluation split: that one is divided 70 / 20 / 10;
- only one split: 40 % expert-train, 12 % router-train, 8 % dev, 40 % eval.

Rows whose input also occurs in a later part (in the order expert-train, router-train, dev, eval) are dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from results.ground.digest import unit_interval
from tasks.base import PARTS, Doc, Part
from tasks.card import Roles
from tasks.groups import components

Shares = Mapping[Part, float]

WITH_DEV: Shares = {"expert-train": 0.8, "router-train": 0.2}
WITHOUT_DEV: Shares = {"expert-train": 0.7, "router-train": 0.2, "dev": 0.1}
ONE_SPLIT: Shares = {"expert-train": 0.4, "router-train": 0.12, "dev": 0.08, "eval": 0.4}


@dataclass(frozen=True)
class KeyedDoc:
    """A row with the normalised text of its input, and the texts that link it to other rows (`tasks.groups.link`)."""

    doc: Doc
    key: str
    links: tuple[str, ...] = ()


def make_parts(splits: Mapping[str, Sequence[KeyedDoc]], roles: Roles) -> tuple[dict[Part, list[Doc]], list[str]]:
    """Divide the splits that are there into parts.

    Args:
        splits: rows by official split; at least one. One that holds none is still there: no other takes its place.
        roles: which split is meant for what.

    Returns:
        The parts, and sentences about what the official splits did not give.
    """
    notes: list[str] = []
    evaluation, development, training = _choose(splits, roles, notes)
    parts: dict[Part, list[KeyedDoc]] = {part: [] for part in PARTS}
    if training is None:
        parts |= _divide(splits[evaluation], ONE_SPLIT)
        notes.append(f"The only split, {evaluation}, is divided by a hash into all four parts (40/12/8/40 %).")
    else:
        parts["eval"] = list(splits[evaluation])
        if development is None:
            parts |= _divide(splits[training], WITHOUT_DEV)
        else:
            parts |= _divide(splits[training], WITH_DEV)
            parts["dev"] = list(splits[development])
    dropped = _separate(parts)
    if dropped:
        counts = ", ".join(f"{n} of {part}" for part, n in dropped.items())
        notes.append(f"Rows dropped because their input also occurs in a later part: {counts}.")
    return {part: [keyed.doc for keyed in parts[part]] for part in PARTS}, notes


def _choose(
    splits: Mapping[str, Sequence[KeyedDoc]], roles: Roles, notes: list[str]
) -> tuple[str, str | None, str | None]:
    """Names of the splits that serve as eval, dev and train; None where there is none."""
    there = [name for name in (roles.eval, roles.dev, roles.train) if name is not None and name in splits]
    evaluation, rest = there[0], there[1:]
    if evaluation != roles.eval:
        notes.append(f"Without the {roles.eval} split, {evaluation} rows are evaluated.")
    training = rest[-1] if rest else None
    if training is not None and training != roles.train:
        notes.append(f"Without a training split, {training} rows are the training parts.")
    return evaluation, rest[0] if len(rest) == 2 else None, training


def _divide(rows: Sequence[KeyedDoc], shares: Shares) -> dict[Part, list[KeyedDoc]]:
    divided: dict[Part, list[KeyedDoc]] = {part: [] for part in shares}
    groups = components([(("whole", row.key), *row.links) for row in rows])
    least: dict[int, str] = {}
    for row, group in zip(rows, groups, strict=True):
        least[group] = min(least.get(group, row.key), row.key)
    parts = {group: _drawn(key, shares) for group, key in least.items()}
    # Pairs may connect a good part of all rows (QQP's questions): as dev such a group would leave nothing to train.
    most = max(1.0, min(shares.values()) * len(rows))
    parts |= {group: "expert-train" for group, size in Counter(groups).items() if size > most}
    for row, group in zip(rows, groups, strict=True):
        divided[parts[group]].append(row)
    return divided


def _drawn(key: str, shares: Shares) -> Part:
    position, reached = unit_interval("parts", key), 0.0
    for part, share in shares.items():
        reached += share
        if position < reached:
            return part
    return part  # 0.7 + 0.2 + 0.1 is a hair below 1


def _separate(parts: dict[Part, list[KeyedDoc]]) -> dict[Part, int]:
    """Drop, in place, rows whose input occurs in a later part; return how many by part, where any."""
    taken: set[str] = set()
    dropped: dict[Part, int] = {}
    for part in reversed(PARTS):
        kept = [row for row in parts[part] if row.key not in taken]
        if len(kept) < len(parts[part]):
            dropped[part] = len(parts[part]) - len(kept)
        parts[part] = kept
        taken |= {row.key for row in kept}
    return {part: dropped[part] for part in PARTS if part in dropped}
