"""Prefix trees and plans: every token once, every scored position once, masks as ancestry says."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.evaluation.tree import Group, Node, Row, build, decoding_groups, plan

sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=8)


def paths(node: Node, above: list[int]) -> dict[int, list[int]]:
    """Tokens of each sequence, read off the tree."""
    here = above + node.tokens
    found = dict.fromkeys(node.ends, here)
    for child in node.children:
        found |= paths(child, here)
    return found


def distinct_prefixes(given: list[list[int]]) -> int:
    return len({tuple(own[: i + 1]) for own in given for i in range(len(own))})


@given(sequences)
def test_tree_holds_every_prefix_once(given: list[list[int]]) -> None:
    tree = build(given, [1] * len(given))
    assert paths(tree, []) == dict(enumerate(given))
    assert tree.size == distinct_prefixes(given)
    assert tree.leaves == len(given)


def computed(group: Group, above: list[int]) -> list[tuple[list[int], Row]]:
    """Every piece of a plan with the prefix it is computed below."""
    here = above + group.prefix.tokens
    found = [(above, group.prefix)] if group.prefix.tokens else []
    found += [(here, row) for row in group.rows]
    for inner in group.groups:
        found += computed(inner, here)
    return found


@settings(max_examples=200)
@given(sequences, st.integers(0, 12), st.integers(1, 30), st.data())
def test_plan_scores_each_position_in_its_own_context(
    given: list[list[int]], overhead: int, longest: int, data: st.DataObject
) -> None:
    counts = [data.draw(st.integers(0, len(own))) for own in given]
    seen = {}
    for above, row in computed(plan(build(given, counts), overhead=overhead, longest_row=longest), []):
        assert row.visible().shape == (len(row.tokens) - row.trunk, len(row.tokens))
        chain = np.tri(row.trunk, len(row.tokens), dtype=bool)
        visible = np.concatenate([chain, row.visible()])
        for column, sequence, index in row.wanted:
            assert (sequence, index) not in seen
            own = [row.tokens[c] for c in np.flatnonzero(visible[column])]
            position = len(given[sequence]) - counts[sequence] + index
            assert above + own == given[sequence][: position + 1]
            assert row.positions[column] == position
            seen[sequence, index] = True
    assert len(seen) == sum(counts)


def test_plan_computes_a_fewshot_prefix_once() -> None:
    rng = random.Random(0)
    shots = [rng.randrange(5, 99) for _ in range(600)]
    questions = [[100 + i, *[rng.randrange(5, 99) for _ in range(20)]] for i in range(30)]
    items = [[*shots, *question, choice] for question in questions for choice in range(4)]
    top = plan(build(items, [1] * len(items)), overhead=64, longest_row=512)
    (inner,) = top.groups
    assert inner.prefix.tokens == shots
    assert sorted(len(row.tokens) for row in inner.rows) == [25] * 30


def test_plan_repeats_a_trunk_that_is_cheaper_to_repeat() -> None:
    items = [[7, i, *range(200)] for i in range(20)]
    cheap = plan(build(items, [1] * 20), overhead=64, longest_row=512)
    assert [len(row.tokens) for row in cheap.rows] == [202] * 20
    assert not cheap.groups
    shared = plan(build(items, [1] * 20), overhead=4, longest_row=512)
    assert [group.prefix.tokens for group in shared.groups] == [[7]]


def test_plan_makes_a_long_chain_a_prefix_of_nothing() -> None:
    top = plan(build([list(range(900))], [3]), overhead=64, longest_row=512)
    assert [(group.prefix.trunk, group.rows) for group in top.groups] == [(900, [])]


def test_tree_is_built_without_recursion() -> None:
    nested = [list(range(i)) for i in range(1, 3000)]
    assert build(nested, [1] * len(nested)).size == 2999


@given(sequences, st.integers(1, 4), st.integers(0, 4))
def test_decoding_groups_partition_and_leave_a_token(given: list[list[int]], smallest: int, shortest: int) -> None:
    groups = decoding_groups(build(given, [0] * len(given)), smallest=smallest, shortest=shortest)
    assert sorted(member for group in groups for member in group.members) == list(range(len(given)))
    for group in groups:
        first = given[group.members[0]]
        assert all(given[member][: group.length] == first[: group.length] for member in group.members)
        assert all(len(given[member]) > group.length for member in group.members)


@pytest.mark.parametrize(("members", "groups"), [(20, 2), (4, 1)])
def test_decoding_splits_tasks_with_enough_rows(members: int, groups: int) -> None:
    prompts = [[task] * 50 + [90 + i] for task in (1, 2) for i in range(members)]
    found = decoding_groups(build(prompts, [0] * len(prompts)), smallest=16)
    assert len(found) == groups
    assert {group.length for group in found} == ({50} if groups == 2 else {0})
