"""How far apart two computations of one tensor may lie: by rounding, and no further.

    |have - want| <= r |want| + a |autograd| + f |autograd of all parameters, frozen ones too|

|autograd| is the gradient's norm over what is trained. The last term is a floor: the bias in front
of a batch norm has a gradient of zero, a sum of terms that cancel, of which both computations give
rounding alone. Trained with other parameters it is small beside |autograd|; where nothing else is
trained there is nothing to compare it with but the gradient that the frozen parameters would have,
which is of the size of what cancels. Rounding reaches 6.5e-13 of it in float64 (inputs of size
1e-3 into a batch norm) and 8e-17 on usual inputs. float32 needs no margin: what is found in it
counts only if float64 finds it too.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

RELATIVE = {torch.float32: 1e-4, torch.float64: 1e-7}
ABSOLUTE = {torch.float32: 2e-5, torch.float64: 1e-10}
FLOOR = {torch.float32: 1e-6, torch.float64: 1e-11}


def apart(
    what: str,
    have: Tensor,
    want: Tensor,
    size: float = 0.0,
    whole: Callable[[], float] | None = None,
) -> str:
    """By how much two tensors differ, "" within tolerance or where the module is not finite.

    size   |autograd|, 0 for a comparison with the number 1
    whole  the norm with frozen parameters, asked for only if the tensors differ without it
    """
    have, want = have.detach().double(), want.detach()
    dtype, want = want.dtype, want.double()
    if not bool(want.isfinite().all()):
        return ""
    off, norm = float((have - want).norm()), float(want.norm())
    allowed = RELATIVE.get(dtype, 2e-2) * norm + ABSOLUTE.get(dtype, 1e-3) * (size or 1.0)
    if off <= allowed or (whole and off <= allowed + FLOOR.get(dtype, 1e-3) * whole()):
        return ""
    return f"{what} differs from the module's own by {off / (norm or 1):.1e} of its norm"
