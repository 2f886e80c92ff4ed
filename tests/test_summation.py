"""The order of sums: against the tree written as a recursion, in any chunks and runs of leaves."""

from __future__ import annotations

import pytest
import torch
from fedfast.kernels import aggregate, summation
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

SIZE = 21


def cohort(clients: int) -> tuple[Tensor, Tensor, Tensor]:
    """Models, weights, what updates are measured from."""
    draw = torch.Generator().manual_seed(clients)
    rows = torch.randn(clients, SIZE, generator=draw, dtype=torch.float64)
    return rows, torch.rand(clients, generator=draw).double(), torch.randn(SIZE, generator=draw)


def recursion(updates: list[Tensor]) -> Tensor:
    """Leaves of ceil(C / 64), and above them the two halves of a power of two, as it is defined."""
    size = -(-len(updates) // 64)
    leaves = [sum(updates[i : i + size]) for i in range(0, len(updates), size)]

    def node(height: int, j: int) -> Tensor:
        if height == 0:
            return leaves[j]
        left, right = node(height - 1, 2 * j), 2 * j + 1
        there = right < -(-len(leaves) // 2 ** (height - 1))
        return left + node(height - 1, right) if there else left

    return node((len(leaves) - 1).bit_length(), 0)


def added(clients: int, begin: int, end: int, cuts: list[int], backend: str) -> list[Tensor]:
    """The nodes that remain of positions [begin, end), which come in chunks."""
    rows, weights, base = cohort(clients)
    stack = torch.full((12, SIZE), torch.nan, dtype=torch.float64)
    ends = [*sorted({cut for cut in cuts if begin < cut < end}), end]
    for at, stop in zip([begin, *ends], ends, strict=False):
        place = dict(at=at, of=clients, begin=begin)
        part = rows[at:stop], weights[at:stop], base.double()
        aggregate(*part, acc=stack[0], nodes=stack[1:], backend=backend, **place)
    return list(stack)


@pytest.mark.parametrize("clients", [1, 2, 3, 6, 7, 63, 64, 65, 127, 129, 1000])
def test_the_tree_is_the_recursion(clients: int) -> None:
    rows, weights, base = cohort(clients)
    updates = [a * (row - base.double()) for a, row in zip(weights, rows, strict=True)]
    acc = torch.empty(SIZE, dtype=torch.float64)
    aggregate(rows, weights, base.double(), acc=acc, backend="reference")
    assert torch.equal(acc, recursion(updates))
    aggregate(
        rows, weights, base.double(), acc=acc, backend="native"
    )  # multiplies and adds at once
    assert torch.allclose(acc, recursion(updates), rtol=1e-14, atol=1e-13)


@settings(max_examples=60)
@given(
    data=st.data(), clients=st.integers(1, 300), backend=st.sampled_from(["native", "reference"])
)
def test_chunks_and_runs_of_leaves_leave_no_trace(data, clients, backend) -> None:
    size = summation.leaf_size(clients)
    leaves = -(-clients // size)
    rows, weights, base = cohort(clients)
    whole = torch.empty(SIZE, dtype=torch.float64)
    aggregate(rows, weights, base.double(), acc=whole, backend=backend)
    cuts = data.draw(st.lists(st.integers(1, clients), max_size=8))
    between = data.draw(st.lists(st.integers(0, leaves), max_size=4))
    runs = sorted({0, leaves, *between})
    found, nodes = [], []
    for first, last in zip(runs, runs[1:], strict=False):
        stack = added(clients, first * size, min(last * size, clients), cuts, backend)
        own = summation.largest_nodes(first, last, leaves)
        found += stack[: len(own)]
        nodes += own
    assert torch.equal(summation.join_all(found, nodes, leaves), whole)


# Leaves of 1, 2, 3, 4 and 5 clients: four of one leaf, of a tree, of neither; fewer than four.
@pytest.mark.parametrize("clients", [1, 2, 3, 9, 64, 67, 130, 194, 257])
def test_triton_takes_the_same_order(clients: int) -> None:
    rows, weights, base = cohort(clients)
    whole = torch.empty(SIZE, dtype=torch.float64)
    squares = aggregate(rows, weights, base.double(), acc=whole, backend="triton")
    updates = rows - base.double()
    weighted = [a * update for a, update in zip(weights, updates, strict=True)]
    assert torch.equal(whole, recursion(weighted))
    assert torch.allclose(squares[:-1], updates.square().sum(1), rtol=1e-14)
    cuts = [4, 7, clients // 2]  # a chunk that begins between fours, one that ends there
    assert torch.equal(added(clients, 0, clients, cuts, "triton")[0], whole)


@pytest.mark.parametrize(
    "place, why",
    [
        (dict(at=3, of=4), "of: expected at least 5"),
        (dict(at=1, of=200, begin=1), "begin: expected a multiple of 4"),
        (dict(at=-1, of=9), "at: expected a whole number"),
        (dict(at=1, of=9), r"nodes: expected \[1, 21\] for a part; got None"),
        (dict(at=1, of=9, nodes=torch.zeros(1, 3).double()), "nodes: expected at least"),
        (dict(at=1, of=9, nodes=torch.zeros(1, SIZE)), "nodes: expected float64"),
    ],
)
def test_places_that_cannot_be_are_refused(place: dict[str, object], why: str) -> None:
    rows, weights, base = cohort(2)
    acc = torch.zeros(SIZE, dtype=torch.float64)
    with pytest.raises(ValueError, match=why):
        aggregate(rows, weights, base.double(), acc=acc, **place)
