"""`group_norm` and its backward in plain torch, client by client."""

from __future__ import annotations

from torch import Tensor

from .common import client, folded, scaled


def _grouped(x: Tensor, groups: int) -> Tensor:
    """[B, C, ...] as [B, groups, elements]."""
    return x.reshape(x.shape[0], groups, -1)


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    out: Tensor,
    mean: Tensor,
    rstd: Tensor,
) -> None:
    """Each sample's groups of channels by their own statistics, see `kernels.group_norm`."""
    for k in range(x.shape[0]):
        own = _grouped(x[k], groups)
        mean[k] = own.mean(2)
        centred = own - mean[k][..., None]
        rstd[k] = 1 / (centred.square().mean(2) + eps).sqrt()
        normal = (centred * rstd[k][..., None]).view(x[k].shape)
        out[k] = scaled(normal, client(weight, k), client(bias, k))


def group_norm_backward(
    x: Tensor,
    groups: int,
    weight: Tensor | None,
    dout: Tensor,
    mean: Tensor,
    rstd: Tensor,
    dx: Tensor | None,
    dweight: Tensor | None,
    dbias: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    base_weight: Tensor | None,
    base_bias: Tensor | None,
) -> None:
    """Gradients of `group_norm`."""
    for k in range(x.shape[0]):
        normal = (_grouped(x[k], groups) - mean[k][..., None]) * rstd[k][..., None]
        if dx is not None:
            dy = _grouped(scaled(dout[k], client(weight, k), None), groups)
            along = (dy * normal).mean(2, keepdim=True)
            pull = dy - dy.mean(2, keepdim=True) - normal * along
            dx[k] = (pull * rstd[k][..., None]).view(x[k].shape)
        sides = [d for d in range(x.ndim - 1) if d != 1]
        dw = (dout[k] * normal.view(x[k].shape)).sum(sides)
        folded(client(dweight, k), client(base_weight, k), dw, alpha[k], beta[k])
        folded(client(dbias, k), client(base_bias, k), dout[k].sum(sides), alpha[k], beta[k])
