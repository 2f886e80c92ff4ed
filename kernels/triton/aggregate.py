"""`aggregate` in Triton: a program owns a block of columns and adds all clients in their order.

The node on top of the stack is in registers, those below it in memory.
"""

from __future__ import annotations

from torch import Tensor

from ..server import Server
from .common import jit, launch, tl
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
    mean = tl.zeros((BLOCK,), tl.float64)
    held = tl.load(order)
    if held > 0:
        mean = tl.load(_node(acc, nodes, node_stride, held) + cols, mask, other=0.0)
    start = wide(base, cols, mask)
    ahead = tl.load(client_rows + cols, mask, other=0.0)
    last = tl.full((), clients, tl.int32) - 1  # 64-bit numbers would take twice the registers
    for index in range(clients):
        k = tl.full((), index, tl.int32)
        here = ahead  # the next client's row is on its way while this one is added
        following = tl.minimum(k + 1, last).to(tl.int64) * row_stride
        ahead = tl.load(client_rows + following + cols, mask, other=0.0)
        if not SHARED:
            start = wide(base + k.to(tl.int64) * base_stride, cols, mask)
        update = here.to(tl.float64) - start
        node, then = tl.load(order + k + 1), tl.load(order + k + 2)
        if node < 0:
            node = -node
            if node > 1:
                tl.store(_node(acc, nodes, node_stride, node - 1) + cols, mean, mask)
                tl.debug_barrier()
            mean = tl.zeros((BLOCK,), tl.float64)
        mean += tl.load(weights + k).to(tl.float64) * update
        tl.store(partial + k.to(tl.int64) * count + block, tl.sum(update * update, axis=0))
        left = tl.where(then < 0, -then - 1, then)
        for _ in range(left, node):
            node -= 1
            mean = tl.load(_node(acc, nodes, node_stride, node) + cols, mask, other=0.0) + mean
    held = tl.load(order + last + 2)
    tl.store(_node(acc, nodes, node_stride, held) + cols, mean, mask)
    if RULE is not None:
        tl.store(partial + (last + 1).to(tl.int64) * count + block, tl.sum(mean * mean, axis=0))
        here = tl.load(w + cols, mask, other=0.0)
        move = change(mean, m, v, cols, mask, lr, beta1, beta2, tau, RULE)
        tl.store(out + cols, (here.to(tl.float64) + move).to(here.dtype), mask)


@jit
def _node(acc: tl.tensor, nodes: tl.tensor, stride: tl.tensor, node: tl.tensor) -> tl.tensor:
    """Where a node's columns are; 1 is the lowest."""
    return tl.where(node == 1, acc, nodes + (node - 2).to(tl.int64) * stride)
