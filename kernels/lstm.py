"""`lstm` and `lstm_backward`: K clients' LSTM layers, each with its own weights.

    z_t = x_t W_ih^T + b_ih + h_(t-1) W_hh^T + b_hh          h, c zero before the first step
    i, f, g, o = sigmoid(z^i), sigmoid(z^f), tanh(z^g), sigmoid(z^o)
    c_t = f c_(t-1) + i g,   h_t = o tanh(c_t)
    backward: through time from the last step, with the gates and cells that forward kept

Floating point operations of a client: 8 B T H (I + H) forward, twice that backward. Bytes beside
weights and values: 5 f B T H kept (f = element size).
Deterministic: a client is one thread's work and every element is added in one order. Sums are fused
(FMA) on AVX2 and AVX-512, so bits may differ between instruction sets. In Triton one program adds
all of a tile of the result; tiles depend on the shapes of one client.
Source: Hochreiter & Schmidhuber 1997; Gers et al. 2000 (the forget gate); gates in torch's order.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import native_sequences
from ._args import Coefficient, per_client, precise
from ._blocks import block, floating, written
from .reference import lstm as reference
from .registry import dispatch
from .triton import lstm as triton


def lstm(
    x: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    *,
    gates: Tensor | None = None,
    cells: Tensor | None = None,
    out: Tensor | None = None,
    precision: str = "fp32",
    backend: str = "auto",
) -> Tensor:
    """Return `out`, the hidden states of every step.

    x                     `[K, B, T, I]`
    weight_ih, weight_hh  `[K, 4H, I]`, `[K, 4H, H]` with any stride over K
    bias_ih, bias_hh      `[K, 4H]`, both or neither
    gates, cells          `[K, B, T, 4H]`, `[K, B, T, H]`, kept for `lstm_backward`
    out                   `[K, B, T, H]`; gates, cells and out are allocated if None
    What belongs to a client is contiguous in every argument.
    precision             how far products may be rounded, see `linear`
    Raises TypeError/ValueError naming the argument.
    """
    x = floating("x", x, "K, B, T, I")
    weights = _weights(x, weight_ih, weight_hh)
    hidden = weights[1].shape[2]
    if (bias_ih is None) != (bias_hh is None):
        raise ValueError("bias_ih, bias_hh: expected both or neither")
    shape = (x.shape[0], 4 * hidden)
    biases = [
        None if b is None else block(name, b, shape, x)
        for name, b in (("bias_ih", bias_ih), ("bias_hh", bias_hh))
    ]
    gates = written("gates", gates, (*x.shape[:3], 4 * hidden), x)
    cells = written("cells", cells, (*x.shape[:3], hidden), x)
    out = written("out", out, (*x.shape[:3], hidden), x)
    to = gates, cells, out, precise(precision)
    return dispatch(_FORWARD, backend, x, x, *weights, *biases, *to)


def lstm_backward(
    x: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    gates: Tensor,
    cells: Tensor,
    out: Tensor,
    dout: Tensor,
    *,
    dx: Tensor | None = None,
    dweight_ih: Tensor,
    dweight_hh: Tensor,
    dbias_ih: Tensor | None = None,
    dbias_hh: Tensor | None = None,
    alpha: Coefficient = 1.0,
    beta: Coefficient = 0.0,
    base_weight_ih: Tensor | None = None,
    base_weight_hh: Tensor | None = None,
    base_bias_ih: Tensor | None = None,
    base_bias_hh: Tensor | None = None,
    precision: str = "fp32",
    backend: str = "auto",
) -> None:
    """Write the gradients of `lstm`: dx, then those of the parameters.

    x, weight_ih, weight_hh, gates, cells, out   as given to and written by `lstm`; gates and cells
                are overwritten, gates with the gradient before the activations
    dout        `[K, B, T, H]`
    dx          as x, or None if nobody needs it
    dweight_ih, dweight_hh, dbias_ih, dbias_hh   `beta * base + alpha * gradient`, shaped as the
                parameters, which they may be, since they are written last; None for no bias
    alpha, beta   numbers or `[K]`; where beta is 0 bases are not read
    base_...      as the parameters; default to where the gradient goes
    precision     how far products may be rounded, see `linear`
    Raises TypeError/ValueError naming the argument.
    """
    x = floating("x", x, "K, B, T, I")
    weights = _weights(x, weight_ih, weight_hh)
    shape = (*x.shape[:3], weights[1].shape[2])
    kept = (
        written("gates", gates, (*shape[:3], 4 * shape[3]), x),
        written("cells", cells, shape, x),
        block("out", out, shape, x),
    )
    dout = block("dout", dout, shape, x)
    dx = None if dx is None else written("dx", dx, x.shape, x)
    wide = (x.shape[0], 4 * shape[3])
    pairs = [
        _sink("weight_ih", dweight_ih, base_weight_ih, weights[0].shape, x),
        _sink("weight_hh", dweight_hh, base_weight_hh, weights[1].shape, x),
        _sink("bias_ih", dbias_ih, base_bias_ih, wide, x),
        _sink("bias_hh", dbias_hh, base_bias_hh, wide, x),
    ]
    sinks, bases = [p[0] for p in pairs], [p[1] for p in pairs]
    scales = per_client("alpha", alpha, x), per_client("beta", beta, x)
    how = *scales, precise(precision)
    dispatch(_BACKWARD, backend, x, x, *weights, *kept, dout, dx, sinks, bases, *how)


def _weights(x: Tensor, weight_ih: Any, weight_hh: Any) -> tuple[Tensor, Tensor]:
    hidden = weight_hh.shape[-1] if isinstance(weight_hh, Tensor) and weight_hh.ndim else 0
    shape = (x.shape[0], 4 * hidden)
    return (
        block("weight_ih", weight_ih, (*shape, x.shape[3]), x),
        block("weight_hh", weight_hh, (*shape, hidden), x),
    )


def _sink(
    name: str, to: Tensor | None, base: Tensor | None, shape: tuple[int, ...], x: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    if to is None:
        return None, None
    to = written(f"d{name}", to, shape, x)
    return to, to if base is None else block(f"base_{name}", base, shape, x)


_FORWARD = {
    "reference": reference.lstm,
    "native": native_sequences.lstm,
    "triton": triton.lstm,
}
_BACKWARD = {
    "reference": reference.lstm_backward,
    "native": native_sequences.lstm_backward,
    "triton": triton.lstm_backward,
}
