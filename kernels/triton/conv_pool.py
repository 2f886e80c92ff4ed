"""`conv_pool` in Triton: `conv`'s kernels, whose tiles are pooled before they are stored.

Backward, gradients are put back to where the maxima were once, into memory of the results' size,
for the kernels of `conv_backward`.
"""

from __future__ import annotations

from torch import Tensor

from ..geometry import Geometry, Windows
from .common import jit, launch, tl
from .conv import backward, forward
from .conv_offsets import forward_sides
from .conv_windows import Pooled
from .pool_windows import place

BLOCK, WARPS = 1024, 4  # picked elements of a program


def conv_pool(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    windows: Windows,
    activation: str | None,
    out: Tensor,
    tap: Tensor,
    precision: str,
) -> Tensor:
    """`conv_pool` in Triton."""
    sides = forward_sides(x, weight, windows.planes, geometry)
    pooled = Pooled(tap, windows.planes, windows.kernel)
    forward(x, weight, bias, out, geometry, sides, (activation, precision), pooled)
    return out


def conv_pool_backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    tap: Tensor,
    dout: Tensor,
    geometry: Geometry,
    windows: Windows,
    activation: str | None,
    dx: Tensor | None,
    dweight: Tensor | None,
    dbias: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    base_weight: Tensor | None,
    base_bias: Tensor | None,
    precision: str,
    squares: Tensor | None,
) -> None:
    """`conv_pool_backward` in Triton."""
    pooled = Pooled(tap, windows.planes, windows.kernel)
    sinks = dx, dweight, dbias, alpha, beta, base_weight, base_bias, precision, squares
    backward(x, weight, out, dout, geometry, pooled, activation, *sinks)


def pick(x: Tensor, windows: Windows, out: Tensor, tap: Tensor) -> Tensor:
    """`pick` in Triton."""
    size = out[:1].numel()
    launch(
        _pick,
        out.shape[0] * -(-size // BLOCK),
        out,
        *(x, x.stride(0), tap, out, out.stride(0), out.shape[0], size),
        PLANES=windows.planes,
        KERNEL=windows.kernel,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )
    return out


@jit(do_not_specialize=["clients"])
def _pick(
    x: tl.tensor,  # [K, B, C, H, W]
    x_stride: tl.tensor,
    tap: tl.tensor,  # [K, B, C, P, Q] uint8
    out: tl.tensor,  # [K, B, C, P, Q]
    out_stride: tl.tensor,
    clients: tl.tensor,
    size: tl.tensor,  # B C P Q
    PLANES: tl.constexpr,
    KERNEL: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    k = (tl.program_id(0) % clients).to(tl.int64)
    at = tl.program_id(0) // clients * BLOCK + tl.arange(0, BLOCK)
    plane, row, column = place(at, PLANES[0] // KERNEL[0], PLANES[1] // KERNEL[1])
    taps = tl.load(tap + k * size + at, at < size, other=0).to(tl.int32)
    y = row * KERNEL[0] + taps // KERNEL[1]
    z = column * KERNEL[1] + taps % KERNEL[1]
    image = x + k * x_stride + plane * (PLANES[0] * PLANES[1])
    found = tl.load(image + y * PLANES[1] + z, at < size, other=0.0)
    tl.store(out + k * out_stride + at, found, at < size)
