"""`aggregate` in Triton: a program owns a block of columns and adds all clients in their order.

Four clients are added in a pass of its loop, while the rows of the next four are on their way: a
multiprocessor needs some 30 KB in flight to use its part of the memory's bandwidth, and four
programs of 4 warps have 32 KB. Their squares are added up at once, so that threads wait for each
other once in four clients. Bounds: docs/gpu.md.
"""

from __future__ import annotations

from torch import Tensor

from ..server import Server
from .common import jit, launch, tl
from .four_clients import (
    all_four,
    four_rows,
    is_chain,
    is_tree,
    nodes_of,
    store_four_squares,
    updates_of,
    weighted,
)
from .node_stack import begun, joined, put, waiting
from .server import change, wide
from .sums import slots, totals

BLOCK, WARPS = 512, 4
MOST = 12  # nodes above the lowest that any run of at most 64 leaves has


def aggregate(
    client_rows: Tensor,
    weights: Tensor,
    base: Tensor,
    acc: Tensor,
    nodes: Tensor | None,
    order: Tensor,
    server: Server | None,
    w: Tensor | None,
    m: Tensor | None,
    v: Tensor | None,
    out: Tensor | None,
    squares: Tensor,
) -> None:
    clients, size = client_rows.shape
    s = server or Server(lr=0.0, beta1=0.0, beta2=0.0, tau=0.0)
    count = -(-size // BLOCK)
    partial = slots(client_rows, clients + 1, count)
    above = _above(nodes, client_rows)
    launch(
        _columns,
        count,
        client_rows,
        *(client_rows, client_rows.stride(0), weights, base, base.stride(0), acc),
        *(above, above.stride(0), order),
        *(w, m, v, out, s.lr, s.beta1, s.beta2, s.tau, clients, size, count, partial),
        RULE=None if server is None else server.rule,
        SHARED=base.stride(0) == 0,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )
    if nodes is not None:
        nodes.copy_(above[: len(nodes)])
    known = clients if server is None else clients + 1
    launch(totals, known, client_rows, partial, squares, 1, count, num_warps=8)


def _above(nodes: Tensor | None, client_rows: Tensor) -> Tensor:
    """Room for all nodes above `acc` that this part of the clients can make, those held first."""
    clients, size = client_rows.shape
    held = 0 if nodes is None else len(nodes)
    above = slots(client_rows, min(held + clients.bit_length(), MOST), size)
    if nodes is not None:
        above[:held] = nodes
    return above


@jit(do_not_specialize=["clients", "count"])
def _columns(
    client_rows: tl.tensor,  # [K, S]
    row_stride: tl.tensor,
    weights: tl.tensor,  # [K]
    base: tl.tensor,  # [K, S]
    base_stride: tl.tensor,
    acc: tl.tensor,  # [S] float64, the lowest node
    nodes: tl.tensor,  # [n, S] float64, those above it
    node_stride: tl.tensor,
    order: tl.tensor,  # [K + 2] int32
    w: tl.tensor,  # [S]
    m: tl.tensor,  # [S]
    v: tl.tensor,  # [S]
    out: tl.tensor,  # [S]
    lr: tl.float64,
    beta1: tl.float64,
    beta2: tl.float64,
    tau: tl.float64,
    clients: tl.tensor,
    size: tl.tensor,
    count: tl.tensor,
    partial: tl.tensor,  # [K + 1, count] squares of the updates, then of acc
    RULE: tl.constexpr,
    SHARED: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program per block of columns: all clients in order, then the server's rule."""
    block = tl.program_id(0)
    cols = block * BLOCK + tl.arange(0, BLOCK)
    mask = cols < size
    stack = acc, nodes, node_stride, cols, mask
    mean = tl.zeros((BLOCK,), tl.float64)
    held = tl.load(order)
    if held > 0:
        mean = waiting(stack, held)
    start = wide(base, cols, mask)
    last = tl.full((), clients, tl.int32) - 1  # 64-bit numbers would take twice the registers
    ahead = four_rows(client_rows, row_stride, held * 0, last, cols, size)
    for index in range(0, clients, 4):
        k = tl.full((), index, tl.int32)
        rows = ahead  # the next four clients' rows are on their way while these are added
        ahead = four_rows(client_rows, row_stride, k + 4, last, cols, size)
        starts = start, start, start, start
        if not SHARED:
            starts = four_rows(base, base_stride, k, last, cols, size)
        places = nodes_of(order, k, last)
        together = (k + 2 < last) & (is_chain(places) | is_tree(places))
        updates = updates_of(rows, starts)
        store_four_squares(partial + block, count, k, last, updates)
        if together:
            mean = all_four(stack, mean, places, weights + k, updates)
        else:
            for i in range(0, tl.minimum(last - k + 1, 4)):
                node, then = tl.load(order + k + i + 1), tl.load(order + k + i + 2)
                # From the first cache: four updates in registers until then would be too many.
                here = wide(client_rows + (k + i).to(tl.int64) * row_stride, cols, mask)
                if not SHARED:
                    start = wide(base + (k + i).to(tl.int64) * base_stride, cols, mask)
                mean = begun(stack, mean, node) + weighted(weights + k + i, here - start)
                mean = joined(stack, mean, tl.abs(node), then)
    put(stack, tl.load(order + last + 2), mean)
    if RULE is not None:
        tl.store(partial + (last + 1).to(tl.int64) * count + block, tl.sum(mean * mean, axis=0))
        here = tl.load(w + cols, mask, other=0.0)
        move = change(mean, m, v, cols, mask, lr, beta1, beta2, tau, RULE)
        tl.store(out + cols, (here.to(tl.float64) + move).to(here.dtype), mask)
