"""The order in which the clients of a sum are added: leaves, and a binary tree above them.

C clients have positions 0 .. C-1. Leaves are runs of b = ceil(C / 64) consecutive positions, so at
most 64 of them. Inside a leaf clients are added one after another; leaves are joined pair by pair,
level by level, and one without a partner moves up:

    node (0, i) = leaf i
    node (h, j) = node (h-1, 2 j) + node (h-1, 2 j + 1), or node (h-1, 2 j) where that is the last

The tree depends on C alone: not on the chunks that clients come in, nor on who adds which leaves.
A call of `aggregate` goes on where the last one ended, from a stack of nodes that wait for their
partner. Whoever adds a run of whole leaves holds the largest nodes inside of it at the end; those
of all runs, side by side, are joined the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

LEAVES = 64
Node = tuple[int, int]  # (h, j)


def leaf_size(clients: int) -> int:
    """b, clients in a leaf of a sum over so many."""
    return max(1, -(-clients // LEAVES))


def joined(nodes: list[Node], leaves: int) -> int:
    """Join the last of `nodes` with those before it as far as that goes; returns how often."""
    joins = 0
    h, j = nodes.pop()
    while True:
        if nodes and nodes[-1] == (h, j - 1) and j % 2:
            nodes.pop()
            joins += 1
        elif j % 2 or j == 0 or j < -(-leaves >> h) - 1:
            nodes.append((h, j))
            return joins
        h, j = h + 1, j // 2


def largest_nodes(first: int, last: int, leaves: int) -> list[Node]:
    """The largest nodes inside a run of leaves [first, last)."""
    nodes: list[Node] = []
    for leaf in range(first, last):
        nodes.append((0, leaf))
        joined(nodes, leaves)
    return nodes


def join_all(
    rows: Sequence[Tensor],
    nodes: Sequence[Node],
    leaves: int,
    ours: Sequence[bool] | None = None,
) -> Tensor:
    """The sum of all leaves from nodes that cover them, from left to right.

    rows  [n, S] float64, those nodes
    ours  which of them may be overwritten, by default all
    """
    places: list[Node] = []
    waiting: list[tuple[Tensor, bool]] = []
    for row, node, own in zip(rows, nodes, ours or [True] * len(rows), strict=True):
        places.append(node)
        waiting.append((row, own))
        for _ in range(joined(places, leaves)):
            right, _ = waiting.pop()
            left, own = waiting.pop()
            waiting.append((left.add_(right) if own else left + right, True))
    return waiting[0][0]


@lru_cache(maxsize=4096)
def order(count: int, at: int, of: int, begin: int, held: int) -> tuple[int, ...]:
    """Which node each of `count` clients from position `at` of a sum over `of` is added to.

    begin  the position that the sum at hand begins with, a leaf's first
    held   nodes below the tree that its sum is added to in the end: 0 or 1
    [count + 2]: how many nodes there are before; for each client its node, 1 the lowest on the
    stack, negative where it begins with that client; how many nodes there are afterwards. Between
    two numbers the nodes above are joined, the last with the one before it.
    """
    size, last = leaf_size(of), -(-of // leaf_size(of))
    nodes = largest_nodes(begin // size, at // size, last)
    within = at % size > 0
    found = [held + len(nodes) + within]
    for position in range(at, at + count):
        depth = held + len(nodes) + 1
        found.append(depth if position % size else -depth)
        if (position + 1) % size == 0 or position + 1 == of:
            nodes.append((0, position // size))
            joined(nodes, last)
    open_ = (at + count) % size > 0 and at + count < of
    after = held + len(nodes) + open_
    return (*found, 1 if at + count == of and begin == 0 else after)


@lru_cache(maxsize=4096)
def order_tensor(order: tuple[int, ...], device: torch.device) -> Tensor:
    """The order as implementations take it. int32"""
    return torch.tensor(order, dtype=torch.int32, device=device)


def depth(clients: int, chunk: int) -> int:
    """The most nodes that wait between two chunks of `chunk` clients of a sum over `clients`."""
    if clients <= chunk:
        return 1
    size = leaf_size(clients)
    whole = [min(n // size, LEAVES) for n in range(chunk, clients, chunk)]
    opened = [n % size > 0 for n in range(chunk, clients, chunk)]
    return max(bin(n).count("1") + more for n, more in zip(whole, opened, strict=True))


def touched(order: tuple[int, ...]) -> int:
    """The lowest node that a call of this order changes or makes, 0 the lowest on the stack."""
    before, _, *others, after = order
    left = [abs(node) - (node < 0) for node in others]  # once a client's joins are done
    return min(before, after - 1, *(n - 1 for n in left))
