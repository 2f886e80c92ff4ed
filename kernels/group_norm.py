"""`group_norm` and `group_norm_backward`: each sample's groups of channels by themselves.

    n = (x - mean) rstd,  rstd = 1 / sqrt(var + eps),  out = n w + b
    dx = rstd (w dout - mean(w dout) - n mean(w dout n)),  means over a group
    dw = beta w0 + alpha sum dout n,  db = beta b0 + alpha sum dout

Operations of a client: about 5 per element forward, 8 backward. Bytes (f = element size): x is read
three times forward (f each where it does not stay in a cache) and out written once; backward reads
x and dout twice and writes dx.
Deterministic: a client's sums are float64 lanes, over numbers in a fixed order.
Source: Wu & He 2018.
"""

from __future__ import annotations

from torch import Tensor

from ._args import Coefficient
from ._images import divides
from ._scalars import integer
from .batch_norm import Normed
from .declaration import Argument, In, Made, Number, Out, sinks
from .operation import operation


def _groups(name: str, groups: int, x: Tensor) -> int:
    groups = integer(name, groups, 1)
    divides(name, groups, "channels", x.shape[2])
    return groups


@operation(
    In("x", "K B C ..."),
    Argument("groups", check=_groups, using="x"),
    Made("G", check=int, using="groups", passed=False),
    In("weight", "K C", optional=True),
    In("bias", "K C", optional=True),
    Number("eps"),
    Out("out", "K B C ..."),
    Out("mean", "K B G"),
    Out("rstd", "K B G"),
    returns="out mean rstd",
    moves="3 x + out",
)
def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
    out: Tensor | None = None,
    mean: Tensor | None = None,
    rstd: Tensor | None = None,
    backend: str = "auto",
) -> Normed:
    """Return `out`, `mean`, `rstd`: each sample's groups of channels by their own statistics.

    x             `[K, B, C, ...]`; C is a multiple of groups
    weight, bias  `[K, C]`, `[C]` or None
    out           as x; mean, rstd `[K, B, groups]`, for the backward; allocated if None
    Raises TypeError/ValueError naming the argument.
    """


@operation(
    In("x", "K B C ..."),
    Argument("groups", check=_groups, using="x"),
    Made("G", check=int, using="groups", passed=False),
    In("weight", "K C", optional=True),
    In("dout", "K B C ..."),
    In("mean", "K B G"),
    In("rstd", "K B G"),
    Out("dx", "K B C ...", optional=True),
    *sinks("K C", "K C"),
    moves="2 x + 2 dout + dx",
)
def group_norm_backward(
    x: Tensor,
    groups: int,
    weight: Tensor | None,
    dout: Tensor,
    mean: Tensor,
    rstd: Tensor,
    *,
    dx: Tensor | None = None,
    dweight: Tensor | None = None,
    dbias: Tensor | None = None,
    alpha: Coefficient = 1.0,
    beta: Coefficient = 0.0,
    base_weight: Tensor | None = None,
    base_bias: Tensor | None = None,
    backend: str = "auto",
) -> None:
    """Write the gradients of `group_norm`: dx, then dweight and dbias, each if wanted.

    A sample whose dout is 0 gets dx 0 and adds nothing: ragged batches need no count.
    Otherwise as `batch_norm_backward`, with mean and rstd `[K, B, groups]`.
    """
