"""`linear` and `linear_backward`: K clients' dense layers, each with its own weights.

    out = act(x W^T + b)
    dz  = dout act'(out),  dx = dz W
    dW  = beta W0 + alpha dz^T x + gamma W1,  db = beta b0 + alpha sum_B dz + gamma b1

Floating point operations of a client: 2 B I O forward, the same for dx and for dW. Bytes (f =
element size): f I O forward and for dx; f I O more for W0 and f I O written for dW; the batch is
small beside them. With alpha = -eta, beta = 1 - eta decay and the current weights as base, dW is
the weights after a plain SGD step: no gradient is ever written, and weights move 2 f I O instead
of 5 f I O. W1, another f I O, is what corrects the gradient.
Deterministic: a client is one thread's work and every element is added in one order. float32 and
float64 sums are fused (FMA) on AVX2 and AVX-512, so bits may differ between instruction sets. In
Triton one program adds all of a tile of the result; tiles depend on the shapes of one client.
Source: panels and tiles as in Goto & van de Geijn 2008, "Anatomy of High-Performance Matrix
Multiplication", and BLIS (Van Zee & van de Geijn 2015); see `csrc/cpu/gemm.h`.
"""

from __future__ import annotations

from torch import Tensor

from ._args import PRECISIONS, Coefficient
from .declaration import Choice, In, InOut, Out, PerClient, Require, Squares, sinks
from .operation import operation

FUSED = (None, "relu", "tanh")
ACTIVATION = Choice("activation", options=FUSED)
PRECISION = Choice("precision", options=PRECISIONS, native=False)


def need_sinks(dweight: Tensor | None, dbias: Tensor | None, squares: Tensor | None) -> None:
    """Raise ValueError for squares of nothing."""
    if squares is not None and dweight is None and dbias is None:
        raise ValueError("squares: expected None without dweight and dbias; got a tensor")


def need_plain(
    squares: Tensor | None, add_weight: Tensor | None, add_bias: Tensor | None
) -> None:
    """Raise ValueError for squares of sums with addends."""
    if squares is not None and not (add_weight is None and add_bias is None):
        raise ValueError("squares: expected None with add_weight or add_bias; got a tensor")


@operation(
    In("x", "K B I"),
    In("weight", "K O I"),
    In("bias", "K O", optional=True),
    ACTIVATION,
    Out("out", "K B O"),
    PRECISION,
    returns="out",
    moves="x + weight + bias + out",
)
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
                tensor cores; a permission, see `_args.PRECISIONS`: other backends ignore it
    What belongs to a client is contiguous in every argument.
    Raises TypeError/ValueError naming the argument.
    """


@operation(
    In("x", "K B I"),
    In("weight", "K O I"),
    In("out", "K B O"),
    InOut("dout", "K B O", may="out"),
    ACTIVATION,
    Out("dx", "K B I", optional=True),
    Require("sinks", check=need_sinks, using="dweight dbias squares"),
    *sinks("K O I", "K O"),
    PRECISION,
    Require("plain", check=need_plain, using="squares add_weight add_bias"),
    Squares("squares", of="dweight dbias"),
    PerClient("gamma"),
    In("add_weight", "K O I", optional=True),
    In("add_bias", "K O", optional=True),
    moves="x + weight + out + 2 dout + dx + 2 dweight + 2 dbias + add_weight + add_bias",
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
    gamma: Coefficient = 0.0,
    add_weight: Tensor | None = None,
    add_bias: Tensor | None = None,
    precision: str = "fp32",
    backend: str = "auto",
) -> None:
    """Write the gradients of `linear` into dx, dweight and dbias, in this order.

    x, weight, out   as given to and returned by `linear`
    dout             `[K, B, O]`; multiplied in place by act'(out) if there is an activation
    dx               `[K, B, I]`, or None if nobody needs it; must not overlap an operand
    dweight, dbias   `[K, O, I]`, `[K, O]`: `beta * base + alpha * gradient + gamma * add`, or None
                     where the parameter is frozen; dweight may be weight, since dx is done by then
    alpha, beta      numbers or `[K]`; where beta is 0 base is not read
    base_weight, base_bias   as weight and bias; default to dweight and dbias themselves
    squares     float64 `[K]`, or None: the sum of squares of what dweight and dbias receive; in
                Triton it comes with the products, and costs no pass over them; none with addends
    gamma       a number or `[K]`
    add_weight, add_bias     as weight and bias, or None: constants that join; not dweight, dbias
    precision   "fp32", "tf32x3", "tf32" or "bf16": how far float32 products may be rounded on
                tensor cores; a permission, see `_args.PRECISIONS`: other backends ignore it
    Raises TypeError/ValueError naming the argument.
    """
