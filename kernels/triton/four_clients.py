"""Four clients' rows at a time, for the sums of `aggregate`."""

from __future__ import annotations

from .common import jit, tl
from .node_stack import begun, joined


@jit
def four_rows(
    rows: tl.tensor,
    stride: tl.tensor,
    k: tl.tensor,
    last: tl.tensor,
    cols: tl.tensor,
    size: tl.tensor,
) -> tuple[tl.tensor, ...]:
    """A block of columns of clients k to k + 3, those after `last` zeros."""
    return (
        _row(rows, stride, k, last, cols, size),
        _row(rows, stride, k + 1, last, cols, size),
        _row(rows, stride, k + 2, last, cols, size),
        _row(rows, stride, k + 3, last, cols, size),
    )


@jit
def _row(
    rows: tl.tensor,
    stride: tl.tensor,
    k: tl.tensor,
    last: tl.tensor,
    cols: tl.tensor,
    size: tl.tensor,
) -> tl.tensor:
    readable = tl.where(k <= last, size, 0)
    return tl.load(rows + k.to(tl.int64) * stride + cols, cols < readable, other=0.0)


@jit
def updates_of(here: tl.tuple, starts: tl.tuple) -> tuple[tl.tensor, ...]:
    """Four clients' rows less what they are measured from, in float64."""
    return (
        here[0].to(tl.float64) - starts[0].to(tl.float64),
        here[1].to(tl.float64) - starts[1].to(tl.float64),
        here[2].to(tl.float64) - starts[2].to(tl.float64),
        here[3].to(tl.float64) - starts[3].to(tl.float64),
    )


@jit
def nodes_of(order: tl.tensor, k: tl.tensor, last: tl.tensor) -> tuple[tl.tensor, ...]:
    """The nodes of clients k to k + 4, as far as there are any."""
    return (
        tl.load(order + k + 1),
        tl.load(order + k + 2),
        tl.load(order + k + 3, k < last, other=0),
        tl.load(order + k + 4, k + 1 < last, other=0),
        tl.load(order + k + 5, k + 2 < last, other=0),
    )


@jit
def store_four_squares(
    slots: tl.tensor, count: tl.tensor, k: tl.tensor, last: tl.tensor, updates: tl.tuple
) -> None:
    """Sums of the squares of four clients' updates, in one reduction."""
    even = tl.join(updates[0] * updates[0], updates[2] * updates[2])
    odd = tl.join(updates[1] * updates[1], updates[3] * updates[3])
    sums = tl.reshape(tl.sum(tl.join(even, odd), axis=0), (4,))
    who = k + tl.arange(0, 4)
    tl.store(slots + who.to(tl.int64) * count, sums, who <= last)


@jit
def is_chain(places: tl.tuple) -> tl.tensor:
    """Whether four clients are of one leaf."""
    node = tl.abs(places[0])
    return (places[1] == node) & (places[2] == node) & (places[3] == node)


@jit
def is_tree(places: tl.tuple) -> tl.tensor:
    """Whether they are two leaves of two, or four of one, that are joined with each other."""
    node, first, second, third = places[0], places[1], places[2], places[3]
    pairs = (first == -node) & (second == node - 1) & (third == -second)
    singles = (first == node - 1) & (second == first) & (third == node - 2)
    return (node < 0) & (pairs | singles)


@jit
def all_four(
    stack: tl.tuple, top: tl.tensor, places: tl.tuple, weights: tl.tensor, updates: tl.tuple
) -> tl.tensor:
    """The node on top once four clients are in it, and joined with those before."""
    top = begun(stack, top, places[0])
    top = top + weighted(weights, updates[0]) + weighted(weights + 1, updates[1])
    two, three = weighted(weights + 2, updates[2]), weighted(weights + 3, updates[3])
    if places[2] < 0:
        top = top + (0.0 + two + three)  # a leaf begins with a zero, which -0 added to it keeps
    else:
        top = top + two + three
    return joined(stack, top, tl.abs(places[0]), places[4])


@jit
def weighted(weight: tl.tensor, update: tl.tensor) -> tl.tensor:
    """An update times the weight that lies there."""
    return tl.load(weight).to(tl.float64) * update
