"""`adam` in plain torch."""

from __future__ import annotations

from torch import Tensor


def adam(
    w: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    t: Tensor,
    eta: Tensor,
    weight_decay: Tensor,
    beta1: float,
    beta2: float,
    eps: float,
    decoupled: bool,
    out: Tensor,
) -> Tensor:
    """See `kernels.adam`."""
    eta, decay = eta[:, None], weight_decay[:, None]
    d = g if decoupled else g + decay * w
    m.copy_(beta1 * m + (1 - beta1) * d)
    v.copy_(beta2 * v + (1 - beta2) * d * d)
    first, second = (1 - beta ** t.double()[:, None] for beta in (beta1, beta2))
    rate, root = (eta / first).to(w), second.sqrt().to(w)
    start = (1 - eta * decay) * w if decoupled else w
    return out.copy_(start - rate * m / (v.sqrt() / root + eps))
