"""`linear` and `linear_backward`: K clients' dense layers, each with its own weights.

    out = act(x W^T + b)
    dz  = dout act'(out),  dx = dz W,  dW = beta W0 + alpha dz^T x,  db = beta b0 + alpha sum_B dz

Floating point operations of a client: 2 B I O forward, the same for dx and for dW. Bytes (f =
element size): f I O forward and for dx; f I O more for W0 and f I O written for dW; the batch is
small beside them. With alpha = -eta, beta = 1 - eta decay and the current weights as base, dW is
the weights after a plain SGD step: no gradient is ever written, and weights move 2 f I O instead
of 5 f I O.
Deterministic: a client is one thread's work and every element is added in one order. float32 and
float64 sums are fused (FMA) on AVX2 and AVX-512, so bits may differ between instruction sets.
Source: panels and tiles as in Goto & van de Geijn 2008, "Anatomy of High-Performance Matrix
Multiplication", and BLIS (Van Zee & van de Geijn 2015); see `csrc/cpu/gemm.h`.
"""

# mypy: allow-untyped-defs

from __future__ import annotations

from torch import Tensor

from . import _native_layers, reference_layers
from ._args import Coefficient, per_client, precise
from ._blocks import block, floating, written
from ._launch import speak
from ._triton import dot, dot_precision, fold, jit, launch, multiple, strided, tile, tl, unit
from ._triton_functions import activate, differentiate

SIDES = {4: (16, 32, 64), 8: (16, 32)}  # of a tile, by element size: the first that covers, or last
DEPTHS = {4: (16, 32), 8: (16,)}  # of the pieces a product is summed in, likewise
BIAS_TILE, WARPS = (16, 64), 4
FUSED = (None, "relu", "tanh")


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
    out: Tensor | None = None,
    precision: str = "fp32",
    backend: str = "auto",
) -> Tensor:
    """Return `out = act(x W^T + b)` for K clients.

    x           `[K, B, I]`
    weight      `[K, O, I]` with any stride over K, or `[O, I]` for all clients
    bias        `[K, O]`, `[O]` or None
    activation  None, "relu" or "tanh"
    out         `[K, B, O]`, allocated if None; must not overlap an operand
    precision   "fp32", "tf32x3" or "tf32": how far float32 products may be rounded on tensor cores;
                a permission, see `_args.precise`: the reference and the native voice ignore it
    What belongs to a client is contiguous in every argument.
    Raises TypeError/ValueError naming the argument.
    """
    x = floating("x", x, "K, B, I")
    weight = _weight(x, weight)
    if bias is not None:
        bias = block("bias", bias, weight.shape[:2], x)
    out = written("out", out, (*x.shape[:2], weight.shape[1]), x)
    return speak(_LINEAR, backend, x, x, weight, bias, _fused(activation), out, precise(precision))


def linear_backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    dout: Tensor,
    *,
    activation: str | None = None,
    dx: Tensor | None = None,
    dweight: Tensor,
    dbias: Tensor | None = None,
    alpha: Coefficient = 1.0,
    beta: Coefficient = 0.0,
    base_weight: Tensor | None = None,
    base_bias: Tensor | None = None,
    precision: str = "fp32",
    backend: str = "auto",
) -> None:
    """Write the gradients of `linear` into dx, dweight and dbias, in this order.

    x, weight, out   as given to and returned by `linear`
    dout             `[K, B, O]`; multiplied in place by act'(out) if there is an activation
    dx               `[K, B, I]`, or None if nobody needs it; must not overlap an operand
    dweight, dbias   `[K, O, I]`, `[K, O]`: `beta * base + alpha * gradient`; dweight may be weight,
                     since dx is done by then
    alpha, beta      numbers or `[K]`; where beta is 0 base is not read
    base_weight, base_bias   as weight and bias; default to dweight and dbias themselves
    precision   "fp32", "tf32x3" or "tf32": how far float32 products may be rounded on tensor cores;
                a permission, see `_args.precise`: the reference and the native voice ignore it
    Raises TypeError/ValueError naming the argument.
    """
    x = floating("x", x, "K, B, I")
    weight = _weight(x, weight)
    shape = (*x.shape[:2], weight.shape[1])
    out, dout = block("out", out, shape, x), written("dout", dout, shape, x)
    dx = None if dx is None else written("dx", dx, x.shape, x)
    dweight = written("dweight", dweight, weight.shape, x)
    base_weight = _base("base_weight", base_weight, dweight)
    if dbias is not None:
        dbias = written("dbias", dbias, weight.shape[:2], x)
        base_bias = _base("base_bias", base_bias, dbias)
    scales = per_client("alpha", alpha, x), per_client("beta", beta, x)
    sinks = dx, dweight, dbias, *scales, base_weight, base_bias, precise(precision)
    speak(_LINEAR_BACKWARD, backend, x, x, weight, out, dout, _fused(activation), *sinks)


def _weight(x: Tensor, weight: Tensor) -> Tensor:
    outputs = weight.shape[-2] if isinstance(weight, Tensor) and weight.ndim > 1 else 0
    return block("weight", weight, (x.shape[0], outputs, x.shape[2]), x)


def _base(name: str, base: Tensor | None, to: Tensor) -> Tensor:
    return to if base is None else block(name, base, to.shape, to)


def _fused(activation: str | None) -> str | None:
    if activation not in FUSED:
        raise ValueError(f"activation: expected None, 'relu' or 'tanh'; got {activation!r}")
    return activation


def _triton_linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None,
    out: Tensor,
    precision: str,
) -> Tensor:
    _multiply(x, weight, out, precision, turned=(False, True), bias=bias, activation=activation)
    return out


def _triton_linear_backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    dout: Tensor,
    activation: str | None,
    dx: Tensor | None,
    dweight: Tensor,
    dbias: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    base_weight: Tensor,
    base_bias: Tensor | None,
    precision: str,
) -> None:
    if activation is not None or dbias is not None:
        _through(out, dout, activation, dbias, alpha, beta, base_bias)
    if dx is not None:
        _multiply(dout, weight, dx, precision)
    folded = alpha, beta, base_weight
    _multiply(dout, x, dweight, precision, turned=(True, False), folded=folded)


def _multiply(
    a: Tensor,
    b: Tensor,
    out: Tensor,
    precision: str,
    *,
    turned: tuple[bool, bool] = (False, False),
    bias: Tensor | None = None,
    activation: str | None = None,
    folded: tuple[Tensor | None, Tensor | None, Tensor | None] = (None, None, None),
) -> None:
    """`out = a b` with a, b transposed where `turned`, and what `_product` does to the result."""
    clients, rows, columns = out.shape
    depth = a.shape[1] if turned[0] else a.shape[2]
    sides, depths = SIDES[out.element_size()], DEPTHS[out.element_size()]
    block = _covering(rows, sides), _covering(columns, sides), _covering(depth, depths)
    alpha, beta, base = folded
    launch(
        _product,
        clients * -(-rows // block[0]) * -(-columns // block[1]),
        out,
        *(*strided(a), *strided(b), out, out.stride(0), *strided(bias)),
        *(*strided(base), alpha, beta, clients, rows, columns, depth),
        TURNED=turned,
        UNITS=tuple(unit(t, t.shape[2]) for t in (a, b, out)),
        KIND=activation,
        PRECISION=dot_precision(precision, out),
        BLOCK=block,
        num_warps=2 * WARPS if max(block[:2]) == 64 else WARPS,
    )


def _covering(size: int, sides: tuple[int, ...]) -> int:
    return next((s for s in sides if size <= s), sides[-1])


def _through(
    out: Tensor,
    dout: Tensor,
    activation: str | None,
    dbias: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    base: Tensor | None,
) -> None:
    """`dout *= act'(out)`, and its folded sum over the batch."""
    clients, batch, outputs = dout.shape
    launch(
        _derive,
        clients * -(-outputs // BIAS_TILE[1]),
        out,
        *(*strided(out), *strided(dout), *strided(dbias), *strided(base)),
        *(alpha, beta, clients, batch, outputs),
        UNIT=min(unit(out, outputs), unit(dout, outputs)),
        KIND=activation,
        TILE=BIAS_TILE,
        num_warps=WARPS,
    )


@jit(do_not_specialize=["clients"])
def _product(
    a,  # [K, M, R], or [K, R, M] if turned
    a_stride,
    b,  # [K, R, N], or [K, N, R] if turned
    b_stride,
    out,  # [K, M, N]
    out_stride,
    bias,  # [K, N]
    bias_stride,
    base,  # [K, M, N]
    base_stride,
    alpha,  # [K]
    beta,  # [K]
    clients,
    M,
    N,
    R,
    TURNED: tl.constexpr,  # a, b
    UNITS: tl.constexpr,  # a, b, out
    KIND: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,  # sides along M, N, R
):
    """act(a b + bias), or `beta base + alpha a b`; one program per client and tile, all of R."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    place = tl.program_id(0) // clients
    down = tl.cdiv(M, BLOCK[0])
    m = (place % down * BLOCK[0] + tl.arange(0, BLOCK[0]))[:, None]
    n = (place // down * BLOCK[1] + tl.arange(0, BLOCK[1]))[None, :]
    a += k * multiple(a_stride, UNITS[0])
    b += k * multiple(b_stride, UNITS[1])
    z = tl.zeros((BLOCK[0], BLOCK[1]), out.dtype.element_ty)
    for start in range(0, R, BLOCK[2]):
        r = start + tl.arange(0, BLOCK[2])
        if TURNED[0]:
            left = tile(a, r[None, :], m, R, M, UNITS[0])
        else:
            left = tile(a, m, r[None, :], M, R, UNITS[0])
        if TURNED[1]:
            right = tile(b, n, r[:, None], N, R, UNITS[1])
        else:
            right = tile(b, r[:, None], n, R, N, UNITS[1])
        z = dot(left, right, z, PRECISION)
    width = multiple(N, UNITS[2])
    mask = (m < M) & (n < width)
    if bias is not None:
        z += tl.load(bias + k * bias_stride + n, n < N, other=0.0)
    if KIND is not None:
        z = activate(z, 0.0, KIND)
    if base is not None:
        here = base + k * base_stride + m * width + n
        z = fold(z, here, mask, tl.load(alpha + k), tl.load(beta + k))
    tl.store(out + k * multiple(out_stride, UNITS[2]) + m * width + n, z, mask)


@jit(do_not_specialize=["clients"])
def _derive(
    out,  # [K, B, O]
    out_stride,
    dout,  # [K, B, O]
    dout_stride,
    dbias,  # [K, O]
    dbias_stride,
    base,  # [K, O]
    base_stride,
    alpha,  # [K]
    beta,  # [K]
    clients,
    batch,
    outputs,
    UNIT: tl.constexpr,
    KIND: tl.constexpr,
    TILE: tl.constexpr,  # samples, outputs
):
    """`dout *= act'(out)`, `dbias = beta base + alpha sum_B dout`; a program per block of O."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    cols = tl.program_id(0) // clients * TILE[1] + tl.arange(0, TILE[1])
    width = multiple(outputs, UNIT)
    total = tl.zeros(TILE, dout.dtype.element_ty)
    for start in range(0, batch, TILE[0]):
        rows = (start + tl.arange(0, TILE[0]))[:, None]
        mask = (rows < batch) & (cols < width)
        offsets = rows * width + cols
        here = dout + k * multiple(dout_stride, UNIT) + offsets
        d = tl.load(here, mask, other=0.0)
        if KIND is not None:
            after = tl.load(out + k * multiple(out_stride, UNIT) + offsets, mask, other=0.0)
            d = differentiate(after, after, d, 0.0, KIND)
            tl.store(here, d, mask)
        total += d
    if dbias is not None:
        own = fold(
            tl.sum(total, axis=0),
            base + k * base_stride + cols,
            cols < outputs,
            tl.load(alpha + k),
            tl.load(beta + k),
        )
        tl.store(dbias + k * dbias_stride + cols, own, cols < outputs)


_LINEAR = {
    "reference": reference_layers.linear,
    "native": _native_layers.linear,
    "triton": _triton_linear,
}
_LINEAR_BACKWARD = {
    "reference": reference_layers.linear_backward,
    "native": _native_layers.linear_backward,
    "triton": _triton_linear_backward,
}
