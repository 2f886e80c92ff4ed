"""`log_softmax` and its backward in Triton: tiles of each client's rows."""

from __future__ import annotations

from torch import Tensor

from .common import Kernel, jit, launch, tl
from .functions import exp_down, row_sums
from .tiles import multiple, row_tile, unit

WARPS = 4


def log_softmax(x: Tensor, out: Tensor) -> Tensor:
    _tiles(_subtract, x, out)
    return out


def log_softmax_backward(out: Tensor, dout: Tensor, dx: Tensor) -> Tensor:
    _tiles(_pull, out, dout, dx)
    return dx


def _tiles(kernel: Kernel[..., None], *operands: Tensor) -> None:
    """Launch over tiles of each client's rows."""
    like = operands[0]
    clients, rows, classes = like.shape[0], like.shape[1:-1].numel(), like.shape[-1]
    tile = row_tile(rows, classes)
    launch(
        kernel,
        clients * -(-rows // tile[0]),
        like,
        *(*operands, tuple(t.stride(0) for t in operands), clients, rows, classes),
        UNIT=min(unit(t, classes) for t in operands),
        TILE=tile,
        num_warps=WARPS,
    )


@jit
def _own_rows(clients: tl.tensor, rows: tl.tensor, TILE: tl.constexpr) -> tuple[tl.tensor, ...]:
    """The program's client, its rows, and which of these exist."""
    row = tl.program_id(0) // clients * TILE[0] + tl.arange(0, TILE[0])
    return (tl.program_id(0) % clients).to(tl.int64), row, row < rows


@jit(do_not_specialize=["clients"])
def _subtract(
    x: tl.tensor,  # [K, rows, C]
    out: tl.tensor,  # [K, rows, C]
    strides: tl.tuple,  # over K, of these
    clients: tl.tensor,
    rows: tl.tensor,
    classes: tl.tensor,
    UNIT: tl.constexpr,
    TILE: tl.constexpr,  # rows, classes
) -> None:
    """A tile of rows, each read from cache again where C is large."""
    k, row, inside = _own_rows(clients, rows, TILE)
    classes = multiple(classes, UNIT)
    given = x + k * multiple(strides[0], UNIT) + row[:, None] * classes
    top, total = row_sums(given, inside, classes, TILE)
    log_total = tl.log(total).to(x.dtype.element_ty)
    tl.debug_barrier()  # out may be x: every warp has read before one writes
    to = out + k * multiple(strides[1], UNIT) + row[:, None] * classes
    for first in range(0, classes, TILE[1]):
        c = first + tl.arange(0, TILE[1])[None, :]
        mask = inside[:, None] & (c < classes)
        here = tl.load(given + c, mask, other=0.0)
        tl.store(to + c, (here - top[:, None]) - log_total[:, None], mask)


@jit(do_not_specialize=["clients"])
def _pull(
    out: tl.tensor,  # [K, rows, C]
    dout: tl.tensor,  # [K, rows, C]
    dx: tl.tensor,  # [K, rows, C]
    strides: tl.tuple,  # over K, of these
    clients: tl.tensor,
    rows: tl.tensor,
    classes: tl.tensor,
    UNIT: tl.constexpr,
    TILE: tl.constexpr,  # rows, classes
) -> None:
    """A tile of rows: their sums, then dx."""
    k, row, inside = _own_rows(clients, rows, TILE)
    classes = multiple(classes, UNIT)
    given = dout + k * multiple(strides[1], UNIT) + row[:, None] * classes
    sums = tl.zeros(TILE, tl.float64)
    for first in range(0, classes, TILE[1]):
        c = first + tl.arange(0, TILE[1])[None, :]
        sums += tl.load(given + c, inside[:, None] & (c < classes), other=0.0)
    total = tl.sum(sums, axis=1).to(dout.dtype.element_ty)
    tl.debug_barrier()  # dx may be dout: every warp has read before one writes
    for first in range(0, classes, TILE[1]):
        c = first + tl.arange(0, TILE[1])[None, :]
        mask, place = inside[:, None] & (c < classes), row[:, None] * classes + c
        share = exp_down(tl.load(out + k * multiple(strides[0], UNIT) + place, mask, other=0.0))
        here = tl.load(given + c, mask, other=0.0)
        tl.store(dx + k * multiple(strides[2], UNIT) + place, here - share * total[:, None], mask)
