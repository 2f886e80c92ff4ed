"""`conv_pool` in Triton: `conv`'s kernels, whose tiles are pooled before they are stored.

Backward, what was pooled is put back while tiles are loaded; nothing of the size of the results is
ever in memory.
"""

from __future__ import annotations

from torch import Tensor

from ..geometry import Geometry, Windows
from .conv import backward, forward
from .conv_offsets import forward_sides
from .conv_windows import Pooled


def conv_pool(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    windows: Windows,
    activation: str | None,
    out: Tensor,
    tap: Tensor,
    precision: str,
) -> Tensor:
    """`conv_pool` in Triton."""
    sides, given = forward_sides(x, weight, windows.planes, geometry), Pooled(tap, windows.kernel)
    forward(x, weight, bias, out, geometry, sides, (activation, precision), given)
    return out


def conv_pool_backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    tap: Tensor,
    dout: Tensor,
    geometry: Geometry,
    windows: Windows,
    activation: str | None,
    dx: Tensor | None,
    dweight: Tensor | None,
    dbias: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    base_weight: Tensor | None,
    base_bias: Tensor | None,
    precision: str,
    squares: Tensor | None,
) -> None:
    """`conv_pool_backward` in Triton."""
    taken, planes = Pooled(tap, windows.kernel), windows.planes
    sinks = dx, dweight, dbias, alpha, beta, base_weight, base_bias, precision, squares
    backward(x, weight, out, dout, geometry, planes, activation, taken, *sinks)
