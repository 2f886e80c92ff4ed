"""`adam`: a step of Adam or AdamW in one pass, for K models at once.

    d = g + weight_decay * w          unless decoupled
    m = beta1 * m + (1 - beta1) * d
    v = beta2 * v + (1 - beta2) * d^2
    s = (1 - eta * weight_decay) * w  if decoupled (AdamW), else w
    out = s - eta / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)

Bytes per element of a client (f = element size): reads 4 f, writes 3 f: 28 bytes in float32.
Deterministic: element-wise. The corrections of the bias are computed in float64.
"""

from __future__ import annotations

from torch import Tensor

from ._args import Coefficient
from .declaration import In, InOut, Number, Out, PerClient
from .operation import operation


@operation(
    In("w", "K S"),
    In("g", "K S"),
    InOut("m", "K S"),
    InOut("v", "K S"),
    PerClient("t"),
    PerClient("eta"),
    PerClient("weight_decay"),
    Number("beta1"),
    Number("beta2"),
    Number("eps"),
    Number("decoupled", type=bool),
    Out("out", "K S", may="w g"),
    returns="out",
    moves="w + g + 2 m + 2 v + out",
)
def adam(
    w: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    t: Coefficient,
    eta: Coefficient,
    *,
    weight_decay: Coefficient = 0.0,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    decoupled: bool = False,
    out: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return `out`, the model after a step of Adam; see the formula at the head of this file.

    w, g   `[K, S]`, or rows `[S]` shared by all: model and gradient
    m, v   `[K, S]`, updated in place; zero them before the first step
    t      which step it is, from 1: a number or `[K]`
    eta    learning rate, a number or `[K]`; weight_decay likewise
    decoupled   weight decay as AdamW has it
    out    `[K, S]`; may be w or g itself; allocated if None
    Raises TypeError/ValueError naming the argument for wrong shapes, dtypes or devices.
    Sources: Kingma and Ba, "Adam", ICLR 2015; Loshchilov and Hutter, "Decoupled Weight Decay
    Regularization", ICLR 2019; torch.optim.Adam's order of operations.
    """
