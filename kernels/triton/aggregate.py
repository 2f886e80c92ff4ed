"""`aggregate` in Triton: a program owns a block of columns and adds all clients in their order."""

from __future__ import annotations

from torch import Tensor

from ..server import Server
from .common import jit, launch, tl
from .server import change, wide
from .sums import slots, totals

BLOCK, WARPS = 1024, 4


def aggregate(
    client_rows: Tensor,
    weights: Tensor,
    base: Tensor,
    acc: Tensor,
    first: bool,
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
    launch(
        _columns,
        count,
        client_rows,
        *(client_rows, client_rows.stride(0), weights, base, base.stride(0), acc),
        *(w, m, v, out, s.lr, s.beta1, s.beta2, s.tau, clients, size, count, partial),
        FIRST=first,
        RULE=None if server is None else server.rule,
        SHARED=base.stride(0) == 0,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )
    known = clients if server is None else clients + 1
    launch(totals, known, client_rows, partial, squares, 1, count, num_warps=8)


@jit(do_not_specialize=["clients", "count"])
def _columns(
    client_rows: tl.tensor,  # [K, S]
    row_stride: tl.tensor,
    weights: tl.tensor,  # [K]
    base: tl.tensor,  # [K, S]
    base_stride: tl.tensor,
    acc: tl.tensor,  # [S] float64
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
    FIRST: tl.constexpr,
    RULE: tl.constexpr,
    SHARED: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program per block of columns: all clients in order, then the server's rule."""
    block = tl.program_id(0)
    cols = block * BLOCK + tl.arange(0, BLOCK)
    mask = cols < size
    mean = tl.zeros((BLOCK,), tl.float64)
    if not FIRST:
        mean = tl.load(acc + cols, mask, other=0.0)
    start = wide(base, cols, mask)
    ahead = tl.load(client_rows + cols, mask, other=0.0)
    last = tl.full((), clients, tl.int64) - 1
    for index in range(clients):
        k = tl.full((), index, tl.int64)
        here = ahead  # the next client's row is on its way while this one is added
        ahead = tl.load(client_rows + tl.minimum(k + 1, last) * row_stride + cols, mask, other=0.0)
        if not SHARED:
            start = wide(base + k * base_stride, cols, mask)
        update = here.to(tl.float64) - start
        mean += tl.load(weights + k).to(tl.float64) * update
        tl.store(partial + k * count + block, tl.sum(update * update, axis=0))
    tl.store(acc + cols, mean, mask)
    if RULE is not None:
        tl.store(partial + (last + 1) * count + block, tl.sum(mean * mean, axis=0))
        here = tl.load(w + cols, mask, other=0.0)
        move = change(mean, m, v, cols, mask, lr, beta1, beta2, tau, RULE)
        tl.store(out + cols, (here.to(tl.float64) + move).to(here.dtype), mask)
