"""`activation` and `activation_backward` in Triton, element by element."""

from __future__ import annotations

from torch import Tensor

from .common import Kernel, jit, launch, tl
from .functions import activate, differentiate
from .tiles import multiple, unit

BLOCK, WARPS = 1024, 4


def elementwise(x: Tensor, kind: str, out: Tensor) -> Tensor:
    """`out = act(x)` in Triton, for operations that end in an activation without a slope."""
    return activation(x, kind, 0.0, out)


def activation(x: Tensor, kind: str, slope: float, out: Tensor) -> Tensor:
    _elementwise(_activate_block, (x, out), slope, kind)
    return out


def activation_backward(
    x: Tensor, out: Tensor, dout: Tensor, kind: str, slope: float, dx: Tensor
) -> Tensor:
    _elementwise(_differentiate_block, (x, out, dout, dx), slope, kind)
    return dx


def _elementwise(
    kernel: Kernel[..., None], operands: tuple[Tensor, ...], slope: float, kind: str
) -> None:
    clients, size = operands[0].shape[0], operands[0][:1].numel()
    strides = tuple(t.stride(0) for t in operands)
    launch(
        kernel,
        clients * -(-size // BLOCK),
        operands[0],
        *(*operands, *strides, slope, clients, size),
        KIND=kind,
        UNIT=min(unit(t, size) for t in operands),
        BLOCK=BLOCK,
        num_warps=WARPS,
    )


@jit(do_not_specialize=["clients"])
def _activate_block(
    x: tl.tensor,  # [K, size]
    out: tl.tensor,  # [K, size]
    x_stride: tl.tensor,
    out_stride: tl.tensor,
    slope: tl.float64,
    clients: tl.tensor,
    size: tl.tensor,
    KIND: tl.constexpr,
    UNIT: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program per client and block of elements."""
    k, cols, mask = _place(clients, size, UNIT, BLOCK)
    here = tl.load(x + k * multiple(x_stride, UNIT) + cols, mask)
    result = activate(here, tl.full((), slope, here.dtype), KIND)
    tl.store(out + k * multiple(out_stride, UNIT) + cols, result, mask)


@jit(do_not_specialize=["clients"])
def _differentiate_block(
    x: tl.tensor,  # [K, size]
    out: tl.tensor,  # [K, size]
    dout: tl.tensor,  # [K, size]
    dx: tl.tensor,  # [K, size]
    x_stride: tl.tensor,
    out_stride: tl.tensor,
    dout_stride: tl.tensor,
    dx_stride: tl.tensor,
    slope: tl.float64,
    clients: tl.tensor,
    size: tl.tensor,
    KIND: tl.constexpr,
    UNIT: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program per client and block of elements; what KIND does not need is not loaded."""
    k, cols, mask = _place(clients, size, UNIT, BLOCK)
    before = tl.load(x + k * multiple(x_stride, UNIT) + cols, mask)
    after = tl.load(out + k * multiple(out_stride, UNIT) + cols, mask)
    pull = tl.load(dout + k * multiple(dout_stride, UNIT) + cols, mask)
    result = differentiate(before, after, pull, tl.full((), slope, pull.dtype), KIND)
    tl.store(dx + k * multiple(dx_stride, UNIT) + cols, result, mask)


@jit
def _place(
    clients: tl.tensor, size: tl.tensor, UNIT: tl.constexpr, BLOCK: tl.constexpr
) -> tuple[tl.tensor, ...]:
    """The program's client and columns, and which of these exist."""
    cols = tl.program_id(0) // clients * BLOCK + tl.arange(0, BLOCK)
    return (tl.program_id(0) % clients).to(tl.int64), cols, cols < multiple(size, UNIT)
