"""`harmonize` in NumPy, pair after pair; conflicts, and harmonization by means, in torch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# Of the recursion, relative to |D_i| |D_j|: less than that is no conflict. What the projections
# leave of updates on one line is rounding alone, whose own lengths say nothing.
ROUNDING = 1e-12


def harmonize(
    gram: Tensor, weights: Tensor, pairs: Tensor, together: bool
) -> tuple[Tensor, Tensor]:
    """See `kernels.harmonize`."""
    with np.errstate(invalid="ignore"):  # of models that are not finite
        mixing, after = projected(gram.cpu().numpy(), pairs.cpu().numpy(), together)
    own, settled = (torch.from_numpy(t).to(gram.device) for t in (mixing, after))
    return mixed(weights, own), before_and_after(gram, settled)


def averaged_weights(gram: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """`harmonize` by `averaged`; a device is not waited for."""
    mixing, after = averaged(gram)
    return mixed(weights, mixing), before_and_after(gram, after)


def mixed(weights: Tensor, mixing: Tensor) -> Tensor:
    """The weights of the D from those of the G. [C], [L, C, C] -> [L, C]"""
    if mixing.device.type == "cpu":
        return torch.from_numpy(weights.cpu().numpy() @ mixing.numpy())
    return (weights[:, None] * mixing).sum(dim=1)


def before_and_after(gram: Tensor, after: Tensor) -> Tensor:
    """Conflicting pairs of both. [L, 2] float64"""
    return torch.stack([conflicts(gram), conflicts(after, gram)], dim=-1).double()


def projected(gram: np.ndarray, pairs: np.ndarray, together: bool) -> tuple[np.ndarray, np.ndarray]:
    """(coefficients of the G in the D, Gram matrices of the G), both [L, C, C]."""
    mixing = np.broadcast_to(np.eye(gram.shape[-1]), gram.shape).copy()
    now = gram.copy()
    lengths = np.sqrt(np.diagonal(gram, axis1=1, axis2=2).clip(min=0.0))
    for i, j in pairs.tolist():
        conflict = now[:, i, j] < -ROUNDING * lengths[:, i] * lengths[:, j]
        if conflict.any():
            _project(mixing, now, i, j, conflict, together)
    return mixing, now


def averaged(gram: Tensor) -> tuple[Tensor, Tensor]:
    """The same where every client loses the mean of its projections on the updates D that it
    conflicts with."""
    conflict = conflicting(gram)
    norms = gram.diagonal(dim1=1, dim2=2)[:, None, :]
    share = torch.where(conflict, gram / norms, 0.0)
    mean = share / conflict.sum(-1, keepdim=True).clamp_min(1)
    mixing = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device) - mean
    return mixing, mixing @ gram @ mixing.mT


def conflicting(gram: Tensor, start: Tensor | None = None) -> Tensor:
    """Which pairs conflict. [L, C, C] -> bool, same shape

    start  the Gram matrix of the D, where `gram` is that of the G
    """
    length = (gram if start is None else start).diagonal(dim1=1, dim2=2).clamp_min(0.0).sqrt()
    return gram < -ROUNDING * length[:, :, None] * length[:, None, :]


def conflicts(gram: Tensor, start: Tensor | None = None) -> Tensor:
    """How many pairs conflict in each matrix; see `conflicting`. [L, C, C] -> [L]"""
    return conflicting(gram, start).triu(1).sum(dim=(1, 2))


def _project(
    mixing: np.ndarray, gram: np.ndarray, i: int, j: int, conflict: np.ndarray, together: bool
) -> None:
    """Settle one pair where it conflicts [L], in place: rows i and j become `[[1, -a], [-b, 1]]`
    times themselves."""
    inner, ii, jj = gram[:, i, j], gram[:, i, i], gram[:, j, j]
    nothing = np.zeros_like(inner)
    a = np.divide(inner, jj, out=nothing.copy(), where=conflict)
    # Met by the G_i already projected, G_j is orthogonal to it: nothing is left to take away.
    b = np.divide(inner, ii, out=nothing.copy(), where=conflict) if together else nothing
    one = np.ones_like(a)
    turn = np.stack([np.stack([one, -a], -1), np.stack([-b, one], -1)], -2)  # [L, 2, 2]
    both = [i, j]
    mixing[:, both] = turn @ mixing[:, both]
    gram[:, both] = turn @ gram[:, both]
    gram[:, :, both] = gram[:, :, both] @ turn.swapaxes(-1, -2)
