"""What corrects the gradient of a folded step, for layers that cannot add it to their products.

    out <- out + alpha addend

behind the step, while the client's weights are still in the caches. Dense layers add it where they
store the new weights (`kernels.linear_backward`).
"""

from __future__ import annotations

from torch import Tensor

from .. import kernels
from ..kernels._args import Coefficient
from ..layout import FlatLayout
from .grad_norms import parts_without
from .products import Linear
from .program import Program


class Addends:
    """The parts of a row whose layers leave the addend to others."""

    def __init__(self, program: Program, layout: FlatLayout) -> None:
        dense = [record for record in program.records if isinstance(record, Linear)]
        self.spans = parts_without(layout, {name for r in dense for name in r.parameters})

    def join(self, out: Tensor, addend: Tensor, alpha: Coefficient, backend: str) -> None:
        """`out += alpha addend`. `[K, >= trained]`"""
        for a, b in self.spans:
            here = out[:, a:b]
            kernels.mix(here, addend[:, a:b], b=alpha, out=here, backend=backend)
