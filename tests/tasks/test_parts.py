"""How rows are divided: disjoint by text, independent of order, with the shares that are promised."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.ground.digest import canonical_row, unit_interval
from tasks.base import PARTS, Doc
from tasks.card import Roles
from tasks.parts import KeyedDoc, make_parts
from tasks.wording import normalised

ROLES = Roles(train="train", dev="validation", eval="test")


def _rows(prefix: str, n: int) -> list[KeyedDoc]:
    return [KeyedDoc(Doc(f"{prefix}{i}", {"text": f"{prefix} {i}"}), f"{prefix} {i}") for i in range(n)]


def _sizes(splits: dict[str, list[KeyedDoc]], roles: Roles = ROLES) -> tuple[dict[str, int], list[str]]:
    parts, notes = make_parts(splits, roles)
    return {part: len(rows) for part, rows in parts.items()}, notes


def test_official_splits_decide() -> None:
    sizes, notes = _sizes({"train": _rows("a", 1000), "validation": _rows("b", 50), "test": _rows("c", 80)})
    assert (sizes["dev"], sizes["eval"]) == (50, 80)
    assert sizes["expert-train"] + sizes["router-train"] == 1000
    assert sizes["router-train"] == pytest.approx(200, abs=40)
    assert notes == []


def test_dev_comes_from_training_rows_without_a_split_for_it() -> None:
    sizes, notes = _sizes({"train": _rows("a", 1000), "test": _rows("c", 80)})
    assert sizes["eval"] == 80
    assert sizes["router-train"] == pytest.approx(200, abs=40)
    assert sizes["dev"] == pytest.approx(100, abs=30)
    assert sum(sizes.values()) == 1080
    assert notes == []


def test_development_rows_train_where_no_training_split_is() -> None:
    sizes, notes = _sizes({"validation": _rows("b", 500), "test": _rows("c", 80)})
    assert sizes["eval"] == 80
    assert sizes["expert-train"] == pytest.approx(350, abs=40)
    assert notes == ["Without a training split, validation rows are the training parts."]


def test_one_split_is_divided_into_all_parts() -> None:
    sizes, notes = _sizes({"test": _rows("c", 1000)})
    assert sum(sizes.values()) == 1000
    assert [sizes[part] for part in PARTS] == [pytest.approx(expected, abs=45) for expected in (400, 120, 80, 400)]
    assert "divided by a hash" in notes[0]


def test_another_split_is_evaluated_only_with_a_word_about_it() -> None:
    sizes, notes = _sizes({"train": _rows("a", 100), "validation": _rows("b", 30)})
    assert sizes["eval"] == 30
    assert "Without the test split, validation rows are evaluated." in notes


def test_rows_that_recur_later_are_dropped_and_counted() -> None:
    shared = _rows("c", 3)
    sizes, notes = _sizes({"train": [*_rows("a", 100), *shared[:2]], "validation": shared[2:], "test": shared})
    assert (sizes["dev"], sizes["eval"]) == (0, 3)
    assert sizes["expert-train"] + sizes["router-train"] == 100
    assert "1 of dev" in notes[0]


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["train", "validation", "test"]), st.lists(st.integers(0, 40), min_size=1), min_size=1
    ),
    st.randoms(use_true_random=False),
)
def test_disjoint_by_text_and_independent_of_order(texts: dict[str, list[int]], random) -> None:  # type: ignore[no-untyped-def]
    splits = {
        split: [KeyedDoc(Doc(f"{split}-{i}", {}), str(text)) for i, text in enumerate(numbers)]
        for split, numbers in texts.items()
    }
    keys = {row.doc.id: row.key for rows in splits.values() for row in rows}
    parts, _ = make_parts(splits, ROLES)
    owner: dict[str, str] = {}
    for part in PARTS:
        for doc in parts[part]:
            assert owner.setdefault(keys[doc.id], part) == part
    shuffled = {split: random.sample(rows, len(rows)) for split, rows in splits.items()}
    again, _ = make_parts(shuffled, ROLES)
    assert {part: {doc.id for doc in parts[part]} for part in PARTS} == {
        part: {doc.id for doc in again[part]} for part in PARTS
    }


def test_hashes_follow_from_content() -> None:
    assert normalised(["A  b\n", {"y": "C", "x": ["d"]}, None, 3]) == "a b d c 3"
    assert canonical_row({"b": 1, "a": "é"}) == '{"a":"é","b":1}'
    draws = [unit_interval("x", i) for i in range(2000)]
    assert sum(draws) / len(draws) == pytest.approx(0.5, abs=0.02)
    assert unit_interval("x", 1) == unit_interval("x", 1) != unit_interval("x1")
