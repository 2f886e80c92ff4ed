"""`batch_norm` and `batch_norm_backward`: channels by each client's own samples.

    n = (x - mean) rstd,  rstd = 1 / sqrt(var + eps),  out = n w + b
    dx = rstd (w dout - mean(w dout) - n mean(w dout n)),  means over a channel's samples
    dw = beta w0 + alpha sum dout n,  db = beta b0 + alpha sum dout

Operations of a client: about 5 per element forward, 8 backward. Bytes (f = element size): x is read
three times forward (f each where it does not stay in a cache) and out written once; backward reads
x and dout twice and writes dx.
Deterministic: a client's sums are float64 lanes, over numbers in a fixed order.
Source: Ioffe & Szegedy 2015; running statistics by torch's rule.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._args import Coefficient
from ._images import counts
from .declaration import In, InOut, Number, Out, Require, sinks
from .operation import operation

Normed = tuple[Tensor, Tensor, Tensor]


def _paired(mean: Tensor | None, var: Tensor | None, training: bool) -> None:
    if (mean is None) != (var is None):
        raise ValueError("running_var: expected together with running_mean, or neither")
    if not training and mean is None:
        raise ValueError("running_mean: expected running statistics when not training; got None")


@operation(
    In("x", "K B C ..."),
    In("weight", "K C", optional=True),
    In("bias", "K C", optional=True),
    InOut("running_mean", "K C", optional=True),
    InOut("running_var", "K C", optional=True),
    In("count", "K", torch.int32, check=counts, using="x"),
    Number("training", type=bool),
    Require("running", check=_paired, using="running_mean running_var training"),
    Number("momentum"),
    Number("eps"),
    Out("out", "K B C ..."),
    Out("mean", "K C"),
    Out("rstd", "K C"),
    returns="out mean rstd",
    moves="3 x + out",
)
def batch_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    count: Tensor | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    out: Tensor | None = None,
    mean: Tensor | None = None,
    rstd: Tensor | None = None,
    backend: str = "auto",
) -> Normed:
    """Return `out`, `mean`, `rstd`: channels by their statistics over a client's own samples.

    x             `[K, B, C, ...]`
    weight, bias  `[K, C]`, `[C]` or None
    running_mean, running_var   `[K, C]`, moved in place by `momentum` towards the batch's mean and
                  unbiased variance when training (one number has variance 0), read when not
    count         `[K]` integers: only the first count samples enter the statistics; all if None.
                  Samples beyond are normalised by the same numbers. A client without samples
                  keeps its running statistics
    training      by the batch's statistics; else by the running ones
    out           as x; mean, rstd `[K, C]`, for the backward; allocated if None
    Raises TypeError/ValueError naming the argument.
    """


@operation(
    In("x", "K B C ..."),
    In("weight", "K C", optional=True),
    In("dout", "K B C ..."),
    In("mean", "K C"),
    In("rstd", "K C"),
    In("count", "K", torch.int32, check=counts, using="x"),
    Number("training", type=bool),
    Out("dx", "K B C ...", optional=True),
    *sinks("K C", "K C"),
    moves="2 x + 2 dout + dx",
)
def batch_norm_backward(
    x: Tensor,
    weight: Tensor | None,
    dout: Tensor,
    mean: Tensor,
    rstd: Tensor,
    *,
    count: Tensor | None = None,
    training: bool = True,
    dx: Tensor | None = None,
    dweight: Tensor | None = None,
    dbias: Tensor | None = None,
    alpha: Coefficient = 1.0,
    beta: Coefficient = 0.0,
    base_weight: Tensor | None = None,
    base_bias: Tensor | None = None,
    backend: str = "auto",
) -> None:
    """Write the gradients of `batch_norm`: dx, then dweight and dbias, each if wanted.

    dout             `[K, B, C, ...]`; samples beyond count are not read, their dx is 0
    mean, rstd       `[K, C]`, as `batch_norm` left them
    dweight, dbias   `[K, C]`: `beta * base + alpha * gradient`; bases default to them
    Raises TypeError/ValueError naming the argument.
    """
