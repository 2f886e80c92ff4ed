"""`activation` and `activation_backward`: element by element over `[K, ...]`.

    out = act(x),   dx = dout act'(x)

    relu        max(x, 0)                 leaky_relu  x if x > 0 else slope x
    tanh        tanh(x)                   sigmoid     1 / (1 + exp(-x))
    gelu        x Phi(x), the exact one   silu        x sigmoid(x)
    relu6       min(max(x, 0), 6)

Bytes per element (f = element size): 2 f forward, 3 to 4 f backward. Operations: 1 (relu) to
about 30 (tanh, silu).
Deterministic: element-wise; float32's exp and tanh are polynomials, within 4 units in the last
place, with the same bits on every instruction set; the Triton voice takes the same ones.
Source: exp and tanh after Cephes (Moshier); gelu: Hendrycks & Gimpel 2016; silu: Elfwing et al.
2018.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import native_layers
from ._blocks import block, floating, written
from .reference import layers
from .registry import dispatch
from .triton.common import jit, launch, multiple, tl, unit
from .triton.functions import activate, differentiate

BLOCK, WARPS = 1024, 4
KINDS = ("relu", "tanh", "gelu", "silu", "leaky_relu", "sigmoid", "relu6")


def activation(
    x: Tensor,
    kind: str,
    *,
    slope: float = 0.01,
    out: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return `out = act(x)`, as torch defines it.

    x      `[K, ...]`, each client's part contiguous
    kind   one of `KINDS`
    slope  of leaky_relu below 0
    out    as x; may be x; allocated if None
    Raises TypeError/ValueError naming the argument.
    """
    x = floating("x", x, "K, ...")
    out = written("out", out, x.shape, x)
    return dispatch(_ACTIVATION, backend, x, x, _kind(kind), slope, out)


def activation_backward(
    x: Tensor,
    out: Tensor,
    dout: Tensor,
    kind: str,
    *,
    slope: float = 0.01,
    dx: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return `dx = dout * act'(x)`.

    x, out   what went into `activation` and what came out, both before anything overwrote them;
             relu, relu6, tanh and sigmoid read only out, so that x may then be out
    dout     as x
    dx       as x; may be dout; allocated if None
    Raises TypeError/ValueError naming the argument.
    """
    x = floating("x", x, "K, ...")
    out, dout = block("out", out, x.shape, x), block("dout", dout, x.shape, x)
    dx = written("dx", dx, x.shape, x)
    return dispatch(_ACTIVATION_BACKWARD, backend, x, x, out, dout, _kind(kind), slope, dx)


def _kind(kind: str) -> str:
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}; got {kind!r}")
    return kind


def elementwise(x: Tensor, kind: str, out: Tensor) -> Tensor:
    """`out = act(x)` in Triton, for operations that end in an activation without a slope."""
    return _triton_activation(x, kind, 0.0, out)


def _triton_activation(x: Tensor, kind: str, slope: float, out: Tensor) -> Tensor:
    _elementwise(_activate_block, (x, out), slope, kind)
    return out


def _triton_activation_backward(
    x: Tensor, out: Tensor, dout: Tensor, kind: str, slope: float, dx: Tensor
) -> Tensor:
    _elementwise(_differentiate_block, (x, out, dout, dx), slope, kind)
    return dx


def _elementwise(kernel: Any, operands: tuple[Tensor, ...], slope: float, kind: str) -> None:
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
    x,  # [K, size]
    out,  # [K, size]
    x_stride,
    out_stride,
    slope: tl.float64,
    clients,
    size,
    KIND: tl.constexpr,
    UNIT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program per client and block of elements."""
    k, cols, mask = _place(clients, size, UNIT, BLOCK)
    here = tl.load(x + k * multiple(x_stride, UNIT) + cols, mask)
    result = activate(here, tl.full((), slope, here.dtype), KIND)
    tl.store(out + k * multiple(out_stride, UNIT) + cols, result, mask)


@jit(do_not_specialize=["clients"])
def _differentiate_block(
    x,  # [K, size]
    out,  # [K, size]
    dout,  # [K, size]
    dx,  # [K, size]
    x_stride,
    out_stride,
    dout_stride,
    dx_stride,
    slope: tl.float64,
    clients,
    size,
    KIND: tl.constexpr,
    UNIT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program per client and block of elements; what KIND does not need is not loaded."""
    k, cols, mask = _place(clients, size, UNIT, BLOCK)
    before = tl.load(x + k * multiple(x_stride, UNIT) + cols, mask)
    after = tl.load(out + k * multiple(out_stride, UNIT) + cols, mask)
    pull = tl.load(dout + k * multiple(dout_stride, UNIT) + cols, mask)
    result = differentiate(before, after, pull, tl.full((), slope, pull.dtype), KIND)
    tl.store(dx + k * multiple(dx_stride, UNIT) + cols, result, mask)


@jit
def _place(clients, size, UNIT: tl.constexpr, BLOCK: tl.constexpr):
    """The program's client and columns, and which of these exist."""
    cols = tl.program_id(0) // clients * BLOCK + tl.arange(0, BLOCK)
    return (tl.program_id(0) % clients).to(tl.int64), cols, cols < multiple(size, UNIT)


_ACTIVATION = {
    "reference": layers.activation,
    "native": native_layers.activation,
    "triton": _triton_activation,
}
_ACTIVATION_BACKWARD = {
    "reference": layers.activation_backward,
    "native": native_layers.activation_backward,
    "triton": _triton_activation_backward,
}
