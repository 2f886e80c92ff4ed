"""`layer_reach`: how far tensors are moved along their gradient, each by a radius of its own.

    |g|    = sqrt(sum of squares)
    c      = min(limit / (|g| + 1e-6), 1), what a clip leaves of the gradient; 1 without a limit
    out_l  = rho_l c / (c |g| + eps)

So `w_l + out_l g_l` is the model at radius rho_l along the clipped gradient, whose norm is taken
over all tensors. `reach` is that of one radius.
Bytes of a client (f = element size): 8 for each square; reads and writes f for each tensor. float64
until the end; squares are added in one order, which neither K nor threads change. Deterministic.
Source: FedFSA's layer-wise radii; the clip is torch's `clip_grad_norm_`, as in its official code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from ._slots import slots
from .declaration import In, Number, Out
from .operation import operation


@operation(
    In("rho", "K L"),
    In("squares", check=slots, using="rho"),
    Number("eps"),
    Number("limit"),
    Out("out", "L K"),
    returns="out",
    moves="squares + rho + out",
)
def layer_reach(
    rho: Tensor,
    squares: Sequence[Tensor],
    eps: float,
    *,
    limit: float = math.inf,
    out: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return `out_l = rho_l c / (c |g| + eps)`, `[L, K]`: tensors' factors one after another.

    rho      `[K, L]`, the radius of each tensor
    squares  one or two tensors `[K, n]` float64 with any strides; added in the order given
    limit    the largest norm of the gradient; infinite: it is not clipped
    out      `[L, K]` with any stride from tensor to tensor; allocated if None
    A norm that is not a number gives NaN; an infinite one gives 0, under a limit NaN.
    Raises TypeError/ValueError naming the argument.
    """
