"""How far the loss of K models rises within a radius of their weights.

    L(w + eps) - L(w),  eps along the gradient g of the mean loss L at w, of length rho

All take `MeanLosses` and give float64, a figure for each model; 0 where the gradient is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...torch_settings import torch_threads
from ...validation.values import Count
from ..hessian.solvers import positive
from .mean_losses import MeanLosses

ETA = 0.01  # ASAM's offset of |w|


def sam_sharpness(losses: MeanLosses, rho: float, steps: int = 1) -> Tensor:
    """`L(w + eps) - L(w)` `[K]`, eps found by gradient ascent in the ball `|eps| <= rho`.

        eps <- P(eps + (2 rho / n) g(w + eps) / |g(w + eps)|)     n steps from eps = 0
        P(e) = e min(1, rho / |e|)

    One step is SAM's `eps = rho g / |g|` (Foret, Kleiner, Mobahi, Neyshabur 2021,
    "Sharpness-aware minimization", Eq. 2). Raises ValueError/TypeError for rho or steps.
    """
    positive("rho", rho)
    Count()("steps", steps)
    eps = torch.zeros_like(losses.rows)
    for _ in range(steps):
        eps = eps + _of_length(losses.gradients(losses.rows + eps), 2 * rho / steps)
        lengths = _lengths(eps)
        eps = eps * torch.where(lengths > rho, rho / lengths, 1.0)[:, None]
    return _rise(losses, eps)


def surrogate_gap(losses: MeanLosses, rho: float) -> Tensor:
    """`h(w) = L_p(w) - L(w)`, `L_p(w) = L(w + rho g / |g|)` `[K]`: `sam_sharpness` of one step.

    (Zhuang et al. 2022, "Surrogate gap minimization improves sharpness-aware training"; minimised
    beside L_p by SAGM, Wang et al. 2023, "Sharpness-aware gradient matching".)
    """
    return sam_sharpness(losses, rho)


def adaptive_sharpness(losses: MeanLosses, rho: float, eta: float = ETA) -> Tensor:
    """`L(w + eps) - L(w)` `[K]` where each weight is perturbed by its own scale.

        T = |w| + eta,  eps = rho T^2 g / |T g|,  so that |T^-1 eps| = rho      elementwise T

    of all trained elements, biases too. (Kwon, Kim, Park, Choi 2021, "ASAM", Eq. 5.)
    Raises ValueError/TypeError for rho or eta.
    """
    positive("rho", rho)
    positive("eta", eta)
    scale = losses.rows.abs() + eta
    return _rise(losses, scale * _of_length(scale * losses.gradients(losses.rows), rho))


def layer_sharpness(losses: MeanLosses, rho: float) -> Tensor:
    """`L(w + eps_l) - L(w)` `[K, L]`, `eps_l = rho g_l / |g_l|` of trained tensor l alone.

    Tensors in the order of the layout. Raises ValueError/TypeError for rho.
    """
    positive("rho", rho)
    gradients, before = losses.gradients(losses.rows), losses.values(losses.rows)
    found = []
    for slot in (slot for slot in losses.layout.slots if slot.trained):
        eps, part = torch.zeros_like(gradients), slice(slot.offset, slot.stop)
        eps[:, part] = _of_length(gradients[:, part], rho)
        found.append(losses.values(losses.rows + eps) - before)
    return torch.stack(found, 1)


def _rise(losses: MeanLosses, eps: Tensor) -> Tensor:
    return losses.values(losses.rows + eps) - losses.values(losses.rows)


def _of_length(rows: Tensor, length: float) -> Tensor:
    """Rows `[K, n]` scaled to this length; zero stays zero."""
    lengths = _lengths(rows)
    return rows * torch.where(lengths == 0, 0.0, length / lengths)[:, None]


def _lengths(rows: Tensor) -> Tensor:
    """`|row|` of each `[K]`, row by row: the order of a sum does not depend on other rows."""
    with torch_threads(1):
        return torch.stack([row.norm() for row in rows])
