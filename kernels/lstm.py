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

from torch import Tensor

from ._args import Coefficient
from ._scalars import kind_of
from .declaration import Base, In, InOut, Made, Out, PerClient, Require
from .linear import PRECISION
from .operation import operation


def _sizes(weight_hh: object) -> tuple[int, int]:
    """H and 4 H."""
    if not isinstance(weight_hh, Tensor):
        raise TypeError(f"weight_hh: expected a tensor; got {kind_of(weight_hh)}")
    hidden = weight_hh.shape[-1] if weight_hh.ndim else 0
    return hidden, 4 * hidden


def _both(bias_ih: Tensor | None, bias_hh: Tensor | None) -> None:
    if (bias_ih is None) != (bias_hh is None):
        raise ValueError("bias_ih, bias_hh: expected both or neither")


@operation(
    In("x", "K B T I"),
    Made("H G", check=_sizes, using="weight_hh", passed=False),
    In("weight_ih", "K G I"),
    In("weight_hh", "K G H"),
    Require("biases", check=_both, using="bias_ih bias_hh"),
    In("bias_ih", "K G", optional=True),
    In("bias_hh", "K G", optional=True),
    Out("gates", "K B T G"),
    Out("cells", "K B T H"),
    Out("out", "K B T H"),
    PRECISION,
    returns="out",
    moves="x + weight_ih + T weight_hh + gates + cells + out",
)
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


@operation(
    In("x", "K B T I"),
    Made("H G", check=_sizes, using="weight_hh", passed=False),
    In("weight_ih", "K G I"),
    In("weight_hh", "K G H"),
    InOut("gates", "K B T G"),
    InOut("cells", "K B T H"),
    In("out", "K B T H"),
    In("dout", "K B T H"),
    Out("dx", "K B T I", optional=True),
    Out("dweight_ih", "K G I", optional=True, may="weight_ih base_weight_ih"),
    Out("dweight_hh", "K G H", optional=True, may="weight_hh base_weight_hh"),
    Out("dbias_ih", "K G", optional=True, may="base_bias_ih"),
    Out("dbias_hh", "K G", optional=True, may="base_bias_hh"),
    Base("base_weight_ih", "K G I", of="dweight_ih"),
    Base("base_weight_hh", "K G H", of="dweight_hh"),
    Base("base_bias_ih", "K G", of="dbias_ih"),
    Base("base_bias_hh", "K G", of="dbias_hh"),
    PerClient("alpha"),
    PerClient("beta"),
    PRECISION,
    moves="x + T weight_hh + weight_ih + gates + cells + out + dout + dx + parameters",
)
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
    dweight_ih: Tensor | None = None,
    dweight_hh: Tensor | None = None,
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
                parameters, which they may be, since they are written last; None for no bias and
                for what is frozen
    alpha, beta   numbers or `[K]`; where beta is 0 bases are not read
    base_...      as the parameters; default to where the gradient goes
    precision     how far products may be rounded, see `linear`
    Raises TypeError/ValueError naming the argument.
    """
