"""Rows that share a passage or a question: one part, one group, and a word about what official splits share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.ground.files import write_bytes
from tasks import registry
from tasks.base import PARTS, Doc, TaskSettings
from tasks.card import Roles
from tasks.groups import clusters, components, link, overlaps
from tasks.parts import KeyedDoc, make_parts
from tasks.sources.directory import DirectorySource

ROLES = Roles(train="train", dev="validation", eval="test")


def test_a_link_is_wording_alone() -> None:
    assert link("Is the  Café open?") == link("is the cafe\u0301 open")
    assert link("...") == "..."  # punctuation alone is still a text
    assert link("") == link(None) == ""


def test_rows_are_connected_through_others() -> None:
    pairs = [("a", "b"), ("c", "d"), ("b", "c"), ("e", "f"), ()]
    assert components(pairs) == [0, 0, 0, 3, 4]


def _row(number: int, *links: str) -> KeyedDoc:
    return KeyedDoc(Doc(str(number), {}), f"row {number}", links)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)), min_size=1, max_size=80), st.randoms())
def test_no_link_is_in_two_parts_and_order_is_of_no_effect(pairs: list[tuple[int, int]], random) -> None:  # type: ignore[no-untyped-def]
    rows = [_row(n, f"s{a}", f"s{b}") for n, (a, b) in enumerate(pairs)]
    parts, _ = make_parts({"test": rows}, ROLES)
    links = {row.doc.id: row.links for row in rows}
    owner: dict[str, str] = {}
    for part in PARTS:
        for doc in parts[part]:
            for one in links[doc.id]:
                assert owner.setdefault(one, part) == part
    again, _ = make_parts({"test": random.sample(rows, len(rows))}, ROLES)
    assert {p: {d.id for d in parts[p]} for p in PARTS} == {p: {d.id for d in again[p]} for p in PARTS}
    named = clusters(parts["eval"], links)
    backwards = clusters(parts["eval"][::-1], links)
    assert named == backwards
    for doc in parts["eval"]:
        shares = any(other is not doc and set(links[other.id]) & set(links[doc.id]) for other in parts["eval"])
        assert shares == (doc.id in named)


def test_rows_that_share_nothing_are_drawn_as_before() -> None:
    alone, linked = [_row(n) for n in range(300)], [_row(n, f"own {n}") for n in range(300)]
    assert make_parts({"test": alone}, ROLES) == make_parts({"test": linked}, ROLES)


def test_a_group_larger_than_the_smallest_part_trains_experts() -> None:
    rows = [_row(n, "the hub", f"own {n}") for n in range(60)] + [_row(n, f"own {n}") for n in range(60, 500)]
    parts, _ = make_parts({"test": rows}, ROLES)
    assert {str(n) for n in range(60)} <= {doc.id for doc in parts["expert-train"]}
    assert parts["dev"]


def test_official_splits_are_kept_and_what_they_share_is_said() -> None:
    docs = {name: [Doc(f"{name}{n}", {}) for n in range(4)] for name in ("train", "eval")}
    links = {doc.id: (f"passage {doc.id}",) for own in docs.values() for doc in own} | {"train0": ("passage eval1",)}
    parts = {"expert-train": docs["train"], "router-train": [], "dev": [], "eval": docs["eval"]}
    (sentence,) = overlaps(parts, links, ("passage",))  # type: ignore[arg-type]
    assert sentence.startswith("1 of 4 evaluated rows (25.0 %) share their passage with training rows")
    assert overlaps({**parts, "expert-train": []}, links, ("passage",)) == []  # type: ignore[arg-type]


def _boolq(folder: Path, **splits: list[tuple[str, str]]) -> DirectorySource:
    import json

    for split, rows in splits.items():
        lines = [json.dumps({"question": q, "passage": p, "answer": n % 2 == 0}) for n, (q, p) in enumerate(rows)]
        write_bytes(folder / "boolq" / "default" / f"{split}.jsonl", "\n".join(lines).encode())
    return DirectorySource(folder)


def test_questions_about_one_passage_stay_together_and_are_one_group(tmp_path: Path) -> None:
    rows = [(f"question {n}", f"Passage {n // 5}.") for n in range(400)]
    bound = registry.create("boolq").bind(_boolq(tmp_path, validation=rows), TaskSettings())
    parts = {doc.row["passage"]: set() for part in PARTS for doc in bound.parts[part]}
    for part in PARTS:
        for doc in bound.parts[part]:
            parts[doc.row["passage"]].add(part)
    assert all(len(found) == 1 for found in parts.values())
    assert len(bound.groups) == len(bound.parts["eval"])
    assert len(set(bound.groups.values())) == len({doc.row["passage"] for doc in bound.parts["eval"]})
    assert not any("share" in deviation for deviation in bound.deviations)


def test_published_overlap_is_a_deviation_that_names_numbers(tmp_path: Path) -> None:
    train = [(f"train question {n}", f"Passage {n}.") for n in range(50)]
    held = [("one", "Passage 7"), ("two", "passage 7."), ("three", "Another.")]
    bound = registry.create("boolq").bind(_boolq(tmp_path, train=train, validation=held), TaskSettings())
    assert len(bound.parts["eval"]) == 3
    found = [deviation for deviation in bound.deviations if "share" in deviation]
    assert len(found) == 1
    assert "2 of 3 evaluated rows (66.7 %) share their passage or question with" in found[0]


@pytest.mark.parametrize("name", registry.names())
def test_columns_that_rows_share_are_columns_of_the_card(name: str) -> None:
    card = registry.card(name)
    assert set(card.group_by) <= set(card.columns)
