"""`linear` and `linear_backward`: K clients' dense layers, each with its own weights.

    out = act(x W^T + b)
    dz  = dout act'(out),  dx = dz W,  dW = beta W0 + alpha dz^T x,  db = beta b0 + alpha sum_B dz

Floating point operations of a client: 2 B I O forward, the same for dx and for dW. Bytes (f =
element size): f I O forward and for dx; f I O more for W0 and f I O written for dW; the batch is
small beside them. With alpha = -eta, beta = 1 - eta decay and the current weights as base, dW is
the weights after a plain SGD step: no gradient is ever written, and weights move 2 f I O instead
of 5 f I O.
Deterministic: a client is one thread's work and every element is added in one order. float32 and
float64 sums are fused (FMA) on AVX2 and AVX-512, so bits may differ between instruction sets. In
Triton one program adds all of a tile of the result; tiles depend on the shapes of one client.
Source: panels and tiles as in Goto & van de Geijn 2008, "Anatomy of High-Performance Matrix
Multiplication", and BLIS (Van Zee & van de Geijn 2015); see `csrc/cpu/gemm.h`.
"""

from __future__ import annotations

from torch import Tensor

from . import native_layers
from ._args import Coefficient, per_client, precise
from ._blocks import block, float64_per_client, floating, written
from .reference import linear as reference
from .registry import dispatch
from .triton import linear as triton

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
    precision   "fp32", "tf32x3", "tf32" or "bf16": how far float32 products may be rounded on
                tensor cores; a permission, see `_args.precise`: the other voices ignore it
    What belongs to a client is contiguous in every argument.
    Raises TypeError/ValueError naming the argument.
    """
    x = floating("x", x, "K, B, I")
    weight = _weight(x, weight)
    if bias is not None:
        bias = block("bias", bias, weight.shape[:2], x)
    out = written("out", out, (*x.shape[:2], weight.shape[1]), x)
    return dispatch(
        _LINEAR, backend, x, x, weight, bias, _fused(activation), out, precise(precision)
    )


def linear_backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    dout: Tensor,
    *,
    activation: str | None = None,
    dx: Tensor | None = None,
    dweight: Tensor | None = None,
    dbias: Tensor | None = None,
    alpha: Coefficient = 1.0,
    beta: Coefficient = 0.0,
    base_weight: Tensor | None = None,
    base_bias: Tensor | None = None,
    squares: Tensor | None = None,
    precision: str = "fp32",
    backend: str = "auto",
) -> None:
    """Write the gradients of `linear` into dx, dweight and dbias, in this order.

    x, weight, out   as given to and returned by `linear`
    dout             `[K, B, O]`; multiplied in place by act'(out) if there is an activation
    dx               `[K, B, I]`, or None if nobody needs it; must not overlap an operand
    dweight, dbias   `[K, O, I]`, `[K, O]`: `beta * base + alpha * gradient`, or None (no dbias
                     without dweight); dweight may be weight, since dx is done by then
    alpha, beta      numbers or `[K]`; where beta is 0 base is not read
    base_weight, base_bias   as weight and bias; default to dweight and dbias themselves
    squares     float64 `[K]`, or None: the sum of squares of what dweight and dbias receive; in
                Triton it comes with the products, and costs no pass over them
    precision   "fp32", "tf32x3", "tf32" or "bf16": how far float32 products may be rounded on
                tensor cores; a permission, see `_args.precise`: the other voices ignore it
    Raises TypeError/ValueError naming the argument.
    """
    x = floating("x", x, "K, B, I")
    weight = _weight(x, weight)
    shape = (*x.shape[:2], weight.shape[1])
    out, dout = block("out", out, shape, x), written("dout", dout, shape, x)
    dx = None if dx is None else written("dx", dx, x.shape, x)
    if dweight is not None:
        dweight = written("dweight", dweight, weight.shape, x)
        base_weight = _base("base_weight", base_weight, dweight)
    elif dbias is not None:
        raise ValueError("dbias: expected None without dweight; got a tensor")
    if dbias is not None:
        dbias = written("dbias", dbias, weight.shape[:2], x)
        base_bias = _base("base_bias", base_bias, dbias)
    scales = per_client("alpha", alpha, x), per_client("beta", beta, x)
    if squares is not None and dweight is None:
        raise ValueError("squares: expected None without dweight; got a tensor")
    sinks = dx, dweight, dbias, *scales, base_weight, base_bias, precise(precision)
    more = float64_per_client("squares", squares, x)
    dispatch(_LINEAR_BACKWARD, backend, x, x, weight, out, dout, _fused(activation), *sinks, more)


def _weight(x: Tensor, weight: Tensor) -> Tensor:
    outputs = weight.shape[-2] if isinstance(weight, Tensor) and weight.ndim > 1 else 0
    return block("weight", weight, (x.shape[0], outputs, x.shape[2]), x)


def _base(name: str, base: Tensor | None, to: Tensor) -> Tensor:
    return to if base is None else block(name, base, to.shape, to)


def _fused(activation: str | None) -> str | None:
    if activation not in FUSED:
        raise ValueError(f"activation: expected None, 'relu' or 'tanh'; got {activation!r}")
    return activation


_LINEAR = {
    "reference": reference.linear,
    "native": native_layers.linear,
    "triton": triton.linear,
}
_LINEAR_BACKWARD = {
    "reference": reference.linear_backward,
    "native": native_layers.linear_backward,
    "triton": triton.linear_backward,
}
