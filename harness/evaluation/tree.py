"""Prefix trees over token sequences, and the plan of forward passes that computes every shared token once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

Tokens = Sequence[int]


@dataclass
class Node:
    """Tokens that the same set of sequences shares.

    Attributes:
        tokens: the node's own tokens, below `depth` tokens of its ancestors.
        ends: sequences that end with this node's last token.
        wanted: `(offset in tokens, sequence, index of the target)` of every scored position.
        size: tokens in the whole subtree.
        leaves: sequences that end in the subtree.
    """

    tokens: list[int]
    depth: int
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    wanted: list[tuple[int, int, int]] = field(default_factory=list)
    size: int = 0
    leaves: int = 0


def build(sequences: Sequence[Tokens], scored: Sequence[int]) -> Node:
    """Radix tree of non-empty sequences; the last `scored[i]` positions of sequence `i` are wanted.

    The root holds what all sequences share, which may be nothing.
    """
    arrays = [np.asarray(sequence, dtype=np.int64) for sequence in sequences]
    order = sorted(range(len(sequences)), key=lambda i: list(sequences[i]))
    root = Node([], 0)
    nodes = [root]
    todo = [(root, 0, len(order))]
    while todo:
        node, low, high = todo.pop()
        first, last = arrays[order[low]], arrays[order[high - 1]]
        common = _common_length(first, last, node.depth)
        node.tokens = list(sequences[order[low]][node.depth : common])
        while low < high and len(arrays[order[low]]) == common:
            node.ends.append(order[low])
            low += 1
        for start, stop in _runs([int(arrays[order[i]][common]) for i in range(low, high)]):
            child = Node([], common, parent=node)
            node.children.append(child)
            nodes.append(child)
            todo.append((child, low + start, low + stop))
    for node in reversed(nodes):
        node.size = len(node.tokens) + sum(child.size for child in node.children)
        node.leaves = len(node.ends) + sum(child.leaves for child in node.children)
        for end in node.ends:
            _want(node, end, len(sequences[end]), scored[end])
    return root


def _common_length(first: np.ndarray, last: np.ndarray, known: int) -> int:
    shorter = min(len(first), len(last))
    differ = np.flatnonzero(first[known:shorter] != last[known:shorter])
    return known + int(differ[0]) if len(differ) else shorter


def _runs(keys: Sequence[int]) -> list[tuple[int, int]]:
    starts = [i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]]
    return list(zip(starts, [*starts[1:], len(keys)], strict=True)) if starts else []


def _want(node: Node | None, sequence: int, length: int, count: int) -> None:
    for index in reversed(range(count)):
        position = length - count + index
        while node is not None and position < node.depth:
            node = node.parent
        assert node is not None
        node.wanted.append((position - node.depth, sequence, index))


@dataclass
class Row:
    """One row of a batch: a chain of tokens, or a flattened subtree.

    Attributes:
        tokens: `[t]` ids.
        positions: `[t]` position of each token in its own sequence.
        spans: `(start, stop, parent)` column ranges of the nodes; `parent` indexes `spans`, -1 for the first.
        wanted: `(column, sequence, index of the target)`.
    """

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    spans: list[tuple[int, int, int]] = field(default_factory=list)
    wanted: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def trunk(self) -> int:
        """How many leading columns form a chain."""
        return self.spans[0][1] if self.spans else len(self.tokens)

    def add(self, tokens: Tokens, depth: int, wanted: Sequence[tuple[int, int, int]], parent: int) -> int:
        """Append a node below span `parent`; returns its span."""
        start = len(self.tokens)
        self.tokens.extend(tokens)
        self.positions.extend(range(depth, depth + len(tokens)))
        self.spans.append((start, len(self.tokens), parent))
        self.wanted.extend((start + offset, sequence, index) for offset, sequence, index in wanted)
        return len(self.spans) - 1

    def visible(self) -> np.ndarray:
        """`[t - trunk, t]` booleans: which columns each token below the trunk attends to, its ancestors and itself."""
        length = len(self.tokens)
        mask = np.zeros((length, length), dtype=bool)
        for start, stop, parent in self.spans:
            if parent >= 0:
                # A node's last token sees all of the node and of its ancestors.
                mask[start:stop] = mask[self.spans[parent][1] - 1] if self.spans[parent][1] else False
            mask[start:stop, start:stop] = np.tri(stop - start, dtype=bool)
        return mask[self.trunk :]


@dataclass
class Group:
    """A prefix that is computed once, the rows that continue it, and longer prefixes that extend it."""

    prefix: Row
    rows: list[Row] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)


def plan(root: Node, *, overhead: int, longest_row: int) -> Group:
    """Split a tree into prefixes and rows.

    A subtree of at most `longest_row` tokens becomes one row. The trunk of a larger one becomes a prefix, if repeating
    it in each branch would cost more than `overhead`, the tokens' worth of one more forward pass; otherwise each branch
    repeats it.
    """
    top = Group(Row())
    todo: list[tuple[Group, list[Node], Node]] = [(top, [], root)]
    while todo:
        group, above, node = todo.pop()
        trunk = [*above, node]
        length = sum(len(part.tokens) for part in trunk)
        small = length + node.size - len(node.tokens) <= longest_row
        if length and small:
            group.rows.append(_row(trunk))
        elif not node.children or overhead < length * (len(node.children) - 1):
            inner = Group(_chain(trunk))
            group.groups.append(inner)
            todo.extend((inner, [], child) for child in node.children)
        else:
            # Scored positions of the repeated trunk are read in the first branch alone.
            silent = [Node(part.tokens, part.depth) for part in trunk]
            todo.extend((group, trunk if i == 0 else silent, child) for i, child in enumerate(node.children))
    return top


def _chain(nodes: Sequence[Node]) -> Row:
    row = Row()
    tokens = [token for node in nodes for token in node.tokens]
    wanted = [
        (node.depth - nodes[0].depth + offset, sequence, index)
        for node in nodes
        for offset, sequence, index in node.wanted
    ]
    row.add(tokens, nodes[0].depth, wanted, -1)
    return row


def _row(trunk: Sequence[Node]) -> Row:
    row = _chain(trunk)
    todo = [(child, 0) for child in reversed(trunk[-1].children)]
    while todo:
        node, parent = todo.pop()
        span = row.add(node.tokens, node.depth, node.wanted, parent)
        todo.extend((child, span) for child in reversed(node.children))
    return row


@dataclass(frozen=True)
class SharedPrefix:
    """Sequences that are decoded together: they all start with the same `length` tokens."""

    length: int
    members: list[int]


def decoding_groups(root: Node, *, smallest: int, shortest: int = 32) -> list[SharedPrefix]:
    """Partition sequences by the prefix they share.

    A node's sequences form a group where at least `smallest` of them share at least `shortest` tokens more than their
    relatives; all others share what the root holds. Every sequence keeps at least one token of its own.
    """
    order: list[Node] = [root]
    for node in order:
        order.extend(node.children)
    groups = []
    rest: dict[int, list[int]] = {}
    for node in reversed(order):
        members = list(node.ends)
        for child in node.children:
            members.extend(rest.pop(id(child)))
        big = len(members) >= smallest and len(node.tokens) >= shortest
        if node is root or big:
            if members:
                length = node.depth + len(node.tokens) - (1 if node.ends else 0)
                groups.append(SharedPrefix(length, sorted(members)))
            members = []
        rest[id(node)] = members
    return groups[::-1]
