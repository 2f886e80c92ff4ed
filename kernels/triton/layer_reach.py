"""`layer_reach` in Triton: a program per client."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from .common import jit, launch, tl
from .reach import LANES, norm_of, parts


def layer_reach(
    rho: Tensor, squares: Sequence[Tensor], eps: float, limit: float, out: Tensor
) -> Tensor:
    clients, layers = rho.shape
    launch(
        _layer_reach,
        clients,
        out,
        *(parts(squares), rho, rho.stride(0), layers, eps, limit, out, out.stride(0)),
        CLIPS=limit < math.inf,
        LANES=LANES,
        num_warps=1,
    )
    return out


@jit(do_not_specialize=["layers"])
def _layer_reach(
    squares: tl.tuple,  # see `parts`
    rho: tl.tensor,  # [K, L]
    rho_stride: tl.tensor,
    layers: tl.tensor,
    eps: tl.float64,
    limit: tl.float64,
    out: tl.tensor,  # [L, K]
    out_stride: tl.tensor,
    CLIPS: tl.constexpr,
    LANES: tl.constexpr,
) -> None:
    """One client's factors, of all its tensors."""
    k = tl.program_id(0).to(tl.int64)
    norm = norm_of(squares, k, LANES)
    if CLIPS:
        left = limit * (1.0 / (norm + 1e-6))
        left = tl.where(left > 1.0, 1.0, left)  # a norm that is no number stays one
        scale = left / (left * norm + eps)
    else:
        scale = 1.0 / (norm + eps)
    for start in range(0, layers, LANES):
        layer = start + tl.arange(0, LANES)
        radius = tl.load(rho + k * rho_stride + layer, layer < layers, other=0.0)
        value = (radius.to(tl.float64) * scale).to(out.dtype.element_ty)
        tl.store(out + layer.to(tl.int64) * out_stride + k, value, layer < layers)
