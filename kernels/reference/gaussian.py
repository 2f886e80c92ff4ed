"""Operations of `gaussian.py` in plain torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..gaussian import COUNT_OUT_OF_RANGE, OUT_OF_RANGE


def sample_gaussian(
    h: Tensor,
    samples: int,
    noise: Tensor,
    targets: Tensor,
    count: Tensor,
    alpha: float,
    z: Tensor,
    labels: Tensor,
    counts: Tensor,
) -> None:
    """`mu + softplus(x - alpha) noise` of each sample's L rows."""
    inside = _inside(h, count, COUNT_OUT_OF_RANGE).repeat_interleave(samples, 1)[..., None]
    mu, sigma = (t.repeat_interleave(samples, 1) for t in _gaussian(h, alpha))
    z.copy_(torch.where(inside, mu + sigma * torch.where(inside, noise, 0.0), 0.0))
    labels.copy_(targets.repeat_interleave(samples, 1))
    counts.copy_(samples * count)


def sample_gaussian_backward(
    h: Tensor,
    samples: int,
    noise: Tensor,
    dz: Tensor,
    targets: Tensor,
    count: Tensor,
    mean: Tensor,
    spread: Tensor,
    alpha: float,
    beta: float,
    losses: Tensor,
    dh: Tensor,
) -> None:
    """The gradient of the samples and of `beta KL(r_y || N)`."""
    inside, targets = _classes(h, targets, count, mean.shape[1])
    mask, rows = inside[..., None], (*h.shape[:2], samples, dz.shape[2])
    mu, sigma = _gaussian(h, alpha)
    real = mask[:, :, None]
    own, drawn = (torch.where(real, t.reshape(rows), 0.0) for t in (dz, noise))
    dmu, dsigma = own.sum(2), (own * drawn).sum(2)
    if beta:
        m, s = (t.gather(1, targets[..., None].expand(mu.shape)) for t in (mean, spread))
        share, gap = beta / count.to(h.dtype)[:, None, None], mu - m
        square = (s**2 + gap**2) / sigma**2
        dmu = dmu + share * gap / sigma**2
        dsigma = dsigma + share * (1.0 - square) / sigma
        value = 0.5 * (square - 1.0 - 2.0 * (s / sigma).log())
        losses += (torch.where(mask, value, 0.0).double().sum((1, 2)) * share[:, 0, 0]).to(h.dtype)
    x = h[..., h.shape[2] // 2 :] - alpha
    slope = torch.where(x > 20.0, 1.0, torch.sigmoid(x))
    dh.copy_(torch.where(mask, torch.cat([dmu, dsigma * slope], 2), 0.0))


def sum_gaussians(
    h: Tensor,
    targets: Tensor,
    count: Tensor,
    last: Tensor,
    alpha: float,
    precision: Tensor,
    pull: Tensor,
) -> None:
    """Precisions, and means times precisions, by class."""
    inside, targets = _classes(h, targets, count, precision.shape[1])
    mu, sigma = _gaussian(h, alpha)
    adds = (inside & (last != 0)[:, None])[..., None]
    own, at = sigma**-2, targets[..., None].expand(mu.shape)
    factor = last[:, None, None]
    precision.scatter_add_(1, at, torch.where(adds, factor * own, 0.0))
    pull.scatter_add_(1, at, torch.where(adds, factor * mu * own, 0.0))


def _gaussian(h: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """(mu, sigma)"""
    mu, x = h.chunk(2, dim=2)
    return mu, F.softplus(x - alpha)


def _inside(h: Tensor, count: Tensor, message: str) -> Tensor:
    """Which rows are real. [K, B]"""
    batch = h.shape[1]
    if bool(((count < 0) | (count > batch)).any()):
        raise IndexError(message)
    return torch.arange(batch, device=h.device) < count[:, None]


def _classes(h: Tensor, targets: Tensor, count: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """(which rows are real, targets: 0 beyond them). Raises IndexError."""
    message = OUT_OF_RANGE.format(C=classes)
    inside = _inside(h, count, message)
    targets = torch.where(inside, targets, 0)
    if bool(((targets < 0) | (targets >= classes)).any()):
        raise IndexError(message)
    return inside, targets
