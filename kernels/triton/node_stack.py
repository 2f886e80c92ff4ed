"""The nodes of a cohort's sum that wait for their partner, see `kernels/summation.py`.

The node on top of the stack is in registers, those below it in memory: `stack` is (the lowest node
[S] float64, those above it [n, S], their stride, a program's columns, which of these exist).
"""

from __future__ import annotations

from .common import jit, tl


@jit
def waiting(stack: tl.tuple, node: tl.tensor) -> tl.tensor:
    """A node's columns from memory; 1 is the lowest."""
    return tl.load(_place(stack, node), stack[4], other=0.0)


@jit
def put(stack: tl.tuple, node: tl.tensor, value: tl.tensor) -> None:
    """A node's columns to memory."""
    tl.store(_place(stack, node), value, stack[4])


@jit
def begun(stack: tl.tuple, top: tl.tensor, node: tl.tensor) -> tl.tensor:
    """`top`; where `node` is negative zeros on top of it."""
    if node < 0:
        if node < -1:
            put(stack, -node - 1, top)
            tl.debug_barrier()  # other threads may read what these have written
        top = tl.zeros_like(top)
    return top


@jit
def joined(stack: tl.tuple, top: tl.tensor, node: tl.tensor, then: tl.tensor) -> tl.tensor:
    """`top`, which is `node`, with those below that it is joined with before the client `then`."""
    left = tl.where(then < 0, -then - 1, then)
    while node > left:  # a loop over a range is unrolled, in registers that the rows need
        node -= 1
        top = waiting(stack, node) + top
    return top


@jit
def _place(stack: tl.tuple, node: tl.tensor) -> tl.tensor:
    above = stack[1] + (node - 2).to(tl.int64) * stack[2]
    return tl.where(node == 1, stack[0], above) + stack[3]
