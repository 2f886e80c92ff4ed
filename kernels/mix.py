"""`mix`: a linear combination of two banks; the operation to copy for a new one (CONTRIBUTING.md).

    out = a * x + b * y

Bytes per element of a client (f = element size): reads 2 f (f where a row is shared), writes f.
Deterministic: element-wise.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from torch import Tensor

from . import native
from ._args import Coefficient, bank_like, output, per_client, rows
from .reference import rows as reference
from .registry import dispatch
from .triton.common import jit, launch, tl

BLOCK, WARPS = 4096, 8


def mix(
    x: Tensor,
    y: Tensor,
    a: Coefficient = 1.0,
    b: Coefficient = 1.0,
    *,
    out: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return `out = a * x + b * y` for K clients.

    x, y   `[K, S]` or a row `[S]` shared by all clients
    a, b   numbers or `[K]`
    out    `[K, S]`; may be x or y itself; allocated if None
    Raises TypeError/ValueError naming the argument for wrong shapes, dtypes or devices.
    """
    x = bank_like("x", x, [y, out])
    return dispatch(
        _VOICES,
        backend,
        x,
        x,
        rows("y", y, x),
        per_client("a", a, x),
        per_client("b", b, x),
        output("out", out, x),
    )


def _triton_mix(x: Tensor, y: Tensor, a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    clients, size = out.shape
    strides = x.stride(0), y.stride(0), out.stride(0)
    programs = clients * -(-size // BLOCK)
    launch(
        _mix, programs, out, x, y, a, b, out, clients, size, *strides, BLOCK=BLOCK, num_warps=WARPS
    )
    return out


@jit(do_not_specialize=["clients"])
def _mix(
    x,  # [K, S]
    y,  # [K, S]
    a,  # [K]
    b,  # [K]
    out,  # [K, S]
    clients,
    size,
    x_stride,
    y_stride,
    out_stride,
    BLOCK: tl.constexpr,
):
    """One program per client and block of columns."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    cols = tl.program_id(0) // clients * BLOCK + tl.arange(0, BLOCK)
    mask = cols < size
    left = tl.load(x + k * x_stride + cols, mask)
    right = tl.load(y + k * y_stride + cols, mask)
    tl.store(out + k * out_stride + cols, tl.load(a + k) * left + tl.load(b + k) * right, mask)


_VOICES = {"reference": reference.mix, "native": native.mix, "triton": _triton_mix}
