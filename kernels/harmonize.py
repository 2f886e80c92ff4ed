"""`harmonize`: weights of the mean of updates whose conflicting pairs were projected in turn.

    G = D at first, with Gram matrix gram;  for pairs (i, j) of `pairs` with G_i . G_j < 0:
        G_i <- G_i - (G_i . G_j) / |G_j|^2 G_j;     G_j <- G_j - (G_i . G_j) / |G_i|^2 G_i
    out[l, k] = sum_i weights[i] M[l, i, k]         where G_i = sum_k M[l, i, k] D_k

Every G stays a combination of the D, so that the recursion runs on M and on the Gram matrix of the
G, both [C, C] per segment, float64. What is within rounding of 0 is no conflict (`ROUNDING`).
Backends with `Capabilities.graphs` take one launch, a program a segment, and nobody waits for it;
for others it is NumPy. Deterministic: pairs one after another, sums over clients in their order.
Operations of a pair that conflicts: 16 C a segment. Source: FedGH (Zhang et al., arXiv 2309.06692).
"""

from __future__ import annotations

from torch import Tensor

from . import registry
from .reference import harmonize as plain
from .reference.harmonize import ROUNDING as ROUNDING
from .reference.harmonize import averaged as averaged
from .reference.harmonize import averaged_weights as averaged_weights
from .reference.harmonize import conflicting as conflicting
from .reference.harmonize import conflicts as conflicts
from .reference.harmonize import projected as projected
from .triton import harmonize as fused


def harmonize(
    gram: Tensor, weights: Tensor, pairs: Tensor, together: bool, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    """(weights of the D [L, C], how many pairs conflict before and after [L, 2]), float64.

    gram      [L, C, C] float64, contiguous
    weights   [C] float64, of the mean of the G
    pairs     [n, 2] int32, contiguous, positions in [0, C), in the order in which they are settled
    together  whether G_j too is projected, on what G_i was before this pair
    """
    if registry.capabilities(backend, gram).graphs:
        return fused.harmonize(gram, weights, pairs, together)
    return plain.harmonize(gram, weights, pairs, together)
