"""`batch_norm` and its backward in plain torch, client by client."""

from __future__ import annotations

from torch import Tensor

from .common import along_channels, client, folded, scaled


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    count: Tensor,
    training: bool,
    momentum: float,
    eps: float,
    out: Tensor,
    mean: Tensor,
    rstd: Tensor,
) -> None:
    """Each channel by its client's statistics, see `kernels.batch_norm`."""
    for k, n in enumerate(count.tolist()):
        own = x[k, :n].transpose(0, 1).flatten(1)  # [C, elements]
        elements = own.shape[1]
        average, spread = client(running_mean, k), client(running_var, k)
        if not training and average is not None and spread is not None:
            mean[k], variance = average, spread
        else:
            mean[k] = own.mean(1) if elements else 0.0
            variance = (own - mean[k][:, None]).square().sum(1) / max(elements, 1)
            if average is not None and spread is not None and elements:
                unbiased = variance * elements / max(elements - 1, 1)
                average.copy_((1 - momentum) * average + momentum * mean[k])
                spread.copy_((1 - momentum) * spread + momentum * unbiased)
        rstd[k] = 1 / (variance + eps).sqrt()
        normal = (x[k] - along_channels(mean[k], x[k])) * along_channels(rstd[k], x[k])
        out[k] = scaled(normal, client(weight, k), client(bias, k))


def batch_norm_backward(
    x: Tensor,
    weight: Tensor | None,
    dout: Tensor,
    mean: Tensor,
    rstd: Tensor,
    count: Tensor,
    training: bool,
    dx: Tensor | None,
    dweight: Tensor | None,
    dbias: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    base_weight: Tensor | None,
    base_bias: Tensor | None,
) -> None:
    """Gradients of `batch_norm`; samples beyond a client's count get zeros."""
    for k, n in enumerate(count.tolist()):
        own, dy = x[k, :n], dout[k, :n]
        normal = (own - along_channels(mean[k], own)) * along_channels(rstd[k], own)
        sides = [d for d in range(own.ndim) if d != 1]
        dw, db = (dy * normal).sum(sides), dy.sum(sides)
        if dx is not None:
            dx[k, n:] = 0.0
            elements = max(own.numel() // own.shape[1], 1) if own.shape[1] else 1
            pull = dy
            if training:
                shift = along_channels(db / elements, own)
                pull = dy - shift - normal * along_channels(dw / elements, own)
            dx[k, :n] = scaled(pull * along_channels(rstd[k], own), client(weight, k), None)
        folded(client(dweight, k), client(base_weight, k), dw, alpha[k], beta[k])
        folded(client(dbias, k), client(base_bias, k), db, alpha[k], beta[k])
