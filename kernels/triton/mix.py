"""`mix` in Triton: a program per client and block of columns."""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, tl

BLOCK, WARPS = 4096, 8


def mix(x: Tensor, y: Tensor, a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    clients, size = out.shape
    strides = x.stride(0), y.stride(0), out.stride(0)
    programs = clients * -(-size // BLOCK)
    launch(
        _mix, programs, out, x, y, a, b, out, clients, size, *strides, BLOCK=BLOCK, num_warps=WARPS
    )
    return out


@jit(do_not_specialize=["clients"])
def _mix(
    x: tl.tensor,  # [K, S]
    y: tl.tensor,  # [K, S]
    a: tl.tensor,  # [K]
    b: tl.tensor,  # [K]
    out: tl.tensor,  # [K, S]
    clients: tl.tensor,
    size: tl.tensor,
    x_stride: tl.tensor,
    y_stride: tl.tensor,
    out_stride: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """One program per client and block of columns."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    cols = tl.program_id(0) // clients * BLOCK + tl.arange(0, BLOCK)
    mask = cols < size
    left = tl.load(x + k * x_stride + cols, mask)
    right = tl.load(y + k * y_stride + cols, mask)
    tl.store(out + k * out_stride + cols, tl.load(a + k) * left + tl.load(b + k) * right, mask)
