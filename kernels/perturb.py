"""`perturb`: the ascent of sharpness-aware minimisation, for K clients at once.

    a = sum_j c_j d_j                                        direction, [K, S]
    e = (rho_l / (|t a| + eps) - alpha) * t^2 * a            t = 1; ASAM: |w| + adaptive on weights
    out = w + e

Bytes per element of a client (f = element size, J = number of terms): norm pass reads J f (+ f for
`w` when adaptive), apply pass reads (J + 1) f and writes f: (2 J + 2) f in all, 4 f = 16 bytes for
SAM in float32; shared rows stay in cache and cost nothing. Given `norm`, one pass of (J + 2) f.
The native operation leaves a direction of two terms or more in `out` on its way, which makes it
(J + 4) f, unless `out` is `w` or a term.

Deterministic: each norm adds fixed blocks in a fixed order, so a client's result depends on its own
row alone.
"""

from __future__ import annotations

from torch import Tensor

from ._args import Coefficient, TermsLike, moved, per_client
from .declaration import In, Layers, Number, Out, PerClient, Terms
from .operation import operation
from .segments import Segments


def _radius(name: str, rho: Coefficient, w: Tensor, segments: Segments | None) -> Tensor:
    """`[K, 1]` or `[K, L]`."""
    if not isinstance(rho, Tensor) or rho.ndim < 2:
        return per_client(name, rho, w)[:, None]
    if segments is None or rho.shape != (w.shape[0], segments.count):
        found = "no segments" if segments is None else f"L = {segments.count}"
        raise ValueError(
            "rho: expected a number, [K], or [K, L] with segments of L layers; "
            f"got {list(rho.shape)}, {found}"
        )
    return moved("rho", rho, w)


@operation(
    In("w", "K S"),
    Terms("terms"),
    In("rho", "K R", check=_radius, using="w segments"),
    PerClient("alpha"),
    Number("eps"),
    Number("adaptive", optional=True),
    PerClient("norm", optional=True),
    Layers("segments", optional=True),
    Out("out", "K S", may="w terms"),
    returns="out",
    moves="(2 J + 1) terms + w + out",
)
def perturb(
    w: Tensor,
    terms: TermsLike,
    rho: Coefficient,
    *,
    out: Tensor | None = None,
    segments: Segments | None = None,
    eps: float = 1e-12,
    alpha: Coefficient = 0.0,
    adaptive: float | None = None,
    norm: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return `out = w + (rho / (|t a| + eps) - alpha) * t^2 * a` with `a = sum_j c_j d_j`.

    w         [K, S] or a row [S] shared by all clients
    terms     the direction: a tensor, or a sequence of tensors and (tensor, coefficient); tensors
              `[K, S]` or `[S]`, coefficients numbers or `[K]`
    rho       radius: a number, `[K]`, or `[K, L]` per layer (then `segments` is needed, and with
              L > 1 padding is not moved)
    out       `[K, S]`; may be `w` or a term itself, but not overlap one shifted; allocated if None
    eps       added to the norm, as the papers' codes do (1e-7 FL-Simulator, 1e-12 FedSOL/SAGM,
              1e-16 FedGloSS)
    alpha     gradient-matching shift (SAGM), a number or `[K]`
    adaptive  None, or ASAM's eta: t = |w| + eta on segments flagged `is_weight` (everywhere without
              `segments`), else 1
    norm      `[K]`, |t a| if already known: saves the norm pass
    The norm is one Euclidean norm over the whole row of each client, layers included.

    Raises TypeError/ValueError naming the argument for wrong shapes, dtypes or devices.
    Sources: SAM (Foret et al. 2021, eq. 2), ASAM (Kwon et al. 2021), SAGM (Wang et al. 2023),
    FedFSA (layer radii).
    """
