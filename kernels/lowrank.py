"""`ghost`, `joined`, `reach`, `lowrank`: a dense layer's gradient as a product of two thin factors.

The gradient of `y = x W^T + b` is `dW = d^T x`, `db = sum_B d` with x `[B, I]` and d `[B, O]`: its
rank is at most B, so that neither its norm nor a product with it needs it written down:

    ghost     gram = x x^T + ones;  squares = sum gram o (d d^T) = |dW|^2 + ones |db|^2
    joined    squares = |dW + W1|^2 + ones |db + b1|^2, where sqrt(rest + (|g| + |a|)^2) > limit
    reach     out = min(rho / (sqrt(sum of squares) + eps), most)
    lowrank   out = act(base + scale (x u^T + ones) v)

Sharpness-aware minimisation evaluates a layer at `W + s dW`, `b + s db`: with X and d of the first
pass, `x (W + s dW)^T + b + s db = x W^T + b + s (x X^T + 1) d` and `d' (W + s dW) = d' W + s (d'
d^T) X`, both a `lowrank`; for a first layer x is X, so `x W^T` and `X X^T + 1` are known already.
Operations of a client: 2 B^2 (I + O) for ghost and for lowrank, 2 B^2 O where the Gram matrix is
given. Bytes: those of the batch; none the size of a weight. `joined` forms the gradient a few rows
at a time: 2 B I O operations, and it reads W1, for the clients that are above the limit; the
triangle inequality spares all others.
Deterministic: a client is one thread's work and every element is added in one order; in Triton it
is several programs', whose parts are added in their order; shapes alone decide which. Squares are
added in float64. Where little of the sum is left because its terms cancel, `ghost` forms the
gradient, a few rows at a time, and takes the norm of that.
Products may be rounded as `linear`'s (`precision`). With operands rounded to x~ and d~ the sum of
`ghost` is the norm of `d~^T x~`, the gradient that `linear_backward` would form of them: sums are
float32 and float64 all the same, and cancel as little.
Source: Goodfellow 2015, "Efficient Per-Example Gradient Computations", for norms by Gram matrices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ._args import Coefficient
from ._scalars import kind_of
from ._slots import float64, slots
from .declaration import In, Number, Out, PerClient
from .linear import ACTIVATION, PRECISION
from .operation import operation


def _norms(name: str, squares: Tensor | None, x: Tensor) -> Tensor:
    if squares is None:
        return torch.empty(x.shape[0], dtype=torch.float64, device=x.device)
    return float64(name, squares, 1, x)


def _radii(name: str, out: Tensor) -> Tensor:
    if not isinstance(out, Tensor):
        raise TypeError(f"{name}: expected a tensor; got {kind_of(out)}")
    if out.ndim != 1 or not out.is_contiguous():
        raise ValueError(f"{name}: expected a contiguous tensor [K]; got shape {list(out.shape)}")
    return out


@operation(
    In("x", "K B I"),
    In("d", "K B O"),
    Number("ones"),
    Out("gram", "K B B"),
    Out("squares", "K", torch.float64, check=_norms, using="x"),
    PRECISION,
    returns="gram squares",
    moves="x + d + gram",
)
def ghost(
    x: Tensor,
    d: Tensor,
    *,
    ones: float = 0.0,
    gram: Tensor | None = None,
    squares: Tensor | None = None,
    precision: str = "fp32",
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Return (gram, squares): `x x^T + ones` and the squared norm of `d^T x` (and of `sum_B d`).

    x          `[K, B, I]`, the layer's input
    d          `[K, B, O]`, the gradient of its output before the activation
    ones       1 if the layer has a bias, whose gradient then counts too, else 0
    gram       `[K, B, B]`, allocated if None
    squares    `[K]` float64 with any stride, allocated if None
    precision  how far float32 products may be rounded, as in `linear`
    Raises TypeError/ValueError naming the argument.
    """


@operation(
    In("x", "K B I"),
    In("d", "K B O"),
    Number("ones"),
    In("add_weight", "K O I"),
    In("add_bias", "K O", optional=True),
    In("known", check=slots, using="x"),
    In("added", check=slots, using="x"),
    Number("limit"),
    Out("squares", "K", torch.float64, check=_norms, using="x"),
    PRECISION,
    returns="squares",
    moves="add_weight + add_bias + x + d, above the limit",
)
def joined(
    x: Tensor,
    d: Tensor,
    *,
    add_weight: Tensor,
    add_bias: Tensor | None = None,
    known: Sequence[Tensor],
    added: Sequence[Tensor],
    limit: float,
    ones: float = 0.0,
    squares: Tensor | None = None,
    precision: str = "fp32",
    backend: str = "auto",
) -> Tensor:
    """Return the squared norm of `d^T x + W1` (and of `sum_B d + b1`) where it may matter, else 0.

    It may where `sqrt(rest + (sqrt(sum of known[0]) + sqrt(sum of added))^2)` is not at most the
    limit, rest the sum of known[1]: no norm of g + a over several layers is larger, g and a being
    those that known[0] and added are the squares of.

    x           `[K, B, I]`, the layer's input
    d           `[K, B, O]`, the gradient of its output before the activation
    add_weight  `[K, O, I]`, W1
    add_bias    `[K, O]`, b1; None: 0
    known, added  one or two tensors `[K, n]` float64 each, with any strides
    limit       a number
    ones        1 if the layer has a bias, whose gradient then counts too, else 0
    squares     `[K]` float64 with any stride, allocated if None
    precision   how far float32 products may be rounded, as in `linear`
    Raises TypeError/ValueError naming the argument.
    """


@operation(
    In("squares", check=slots, using="out"),
    Number("rho"),
    Number("eps"),
    Number("most"),
    In("radii", "K", torch.float64, optional=True),
    Out("out", "K", check=_radii),
    like="out",
    returns="out",
    moves="squares + out",
)
def reach(
    squares: Sequence[Tensor],
    rho: float,
    eps: float,
    *,
    out: Tensor,
    most: float = math.inf,
    radii: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return `out = min(rho / (sqrt(sum of all squares) + eps), most)`, computed in float64.

    squares  one or two tensors `[K, n]` float64 with any strides; added in the order given
    out      `[K]` contiguous
    radii    `[K]` float64, each client's in the place of rho
    SAM's radius over the norm; the factor of a clip with `most` 1.
    Raises TypeError/ValueError naming the argument.
    """


@operation(
    In("x", "K B I"),
    In("u", "K B I"),
    In("v", "K B O"),
    PerClient("scale"),
    Number("ones"),
    In("gram", "K B B", optional=True),
    In("base", "K B O"),
    ACTIVATION,
    Out("out", "K B O", may="base"),
    PRECISION,
    returns="out",
    moves="x + u + v + base + out, or gram for x and u",
)
def lowrank(
    x: Tensor,
    u: Tensor,
    v: Tensor,
    scale: Coefficient,
    *,
    base: Tensor,
    ones: float = 0.0,
    gram: Tensor | None = None,
    activation: str | None = None,
    out: Tensor | None = None,
    precision: str = "fp32",
    backend: str = "auto",
) -> Tensor:
    """Return `out = act(base + scale (x u^T + ones) v)`.

    x, u        `[K, B, I]`
    v           `[K, B, O]`
    scale       a number or `[K]`
    base        `[K, B, O]`
    gram        `[K, B, B]`, `x u^T + ones` where it is known; x, u and ones are not read then
    activation  None, "relu" or "tanh"
    out         `[K, B, O]`; may be base, nothing else; allocated if None
    precision   how far float32 products may be rounded, as in `linear`
    Raises TypeError/ValueError naming the argument.
    """
