"""`conv_pool`, `conv_pool_backward`: `conv`, then max pooling over windows side by side; `pick`.

    out = max over each window of act(x * w + b),  tap = which of its elements that is
    backward: `conv_backward` with dz = dout act'(out) at the maxima, 0 elsewhere
    pick: out = x where the maxima of something else were, the tangent of max pooling

Bytes: of the convolution's results only the maxima and a byte each are written and read again: for
2 x 2 windows of float32 1.25 instead of 4 + 1 + 1 numbers a window each way. Operations: `conv`'s.
Triton's backward has dz of all results in memory for a while, see docs/writing-kernels.md.
Deterministic as `conv` is; results are `conv`'s followed by `pool`'s to the bit (native: planes are
pooled while they are in cache; Triton: a program owns whole windows, see `triton/conv_windows.py`).
Source: `conv` and `pool`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._args import Coefficient
from ._blocks import dense_integers
from ._images import WINDOW, Ints, Pair, pair
from .conv import grouped, places
from .declaration import Argument, In, InOut, Made, Out, Require, Squares, sinks
from .geometry import Geometry, Windows
from .linear import ACTIVATION, PRECISION, need_sinks
from .operation import operation

MAX_TAPS = 16  # a tile in Triton holds whole windows


def _kernel(name: str, kernel: Ints, planes: Pair) -> Pair:
    sides = pair(name, kernel, 1)
    if sides[0] * sides[1] > MAX_TAPS or sides[0] > planes[0] or sides[1] > planes[1]:
        raise ValueError(
            f"{name}: expected a window of at most {MAX_TAPS} elements within the results "
            f"{list(planes)}; got {list(sides)}"
        )
    return sides


def _pooled(planes: Pair, kernel: Pair) -> Pair:
    return planes[0] // kernel[0], planes[1] // kernel[1]


def _taps(name: str, tap: Tensor, out: Tensor) -> Tensor:
    return dense_integers(name, tap, out.shape, torch.uint8, out)


def _new_taps(name: str, tap: Tensor | None, out: Tensor) -> Tensor:
    return _taps(name, torch.empty_like(out, dtype=torch.uint8) if tap is None else tap, out)


@operation(
    In("x", "K B C H W"),
    *WINDOW,
    In("weight", "K O G M N", check=grouped, using="x groups"),
    In("bias", "K O", optional=True),
    Made("planes", check=places, using="x weight stride padding dilation", passed=False),
    Argument("kernel", check=_kernel, using="planes", passed=False),
    Made("P Q", check=_pooled, using="planes kernel", passed=False),
    Made("geometry", check=Geometry, using="stride padding dilation groups"),
    Made("windows", check=Windows, using="planes kernel"),
    ACTIVATION,
    Out("out", "K B O P Q"),
    Out("tap", "K B O P Q", torch.uint8, check=_new_taps, using="out"),
    PRECISION,
    returns="out",
    moves="x + weight + bias + out + tap",
)
def conv_pool(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    kernel: Ints,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    activation: str | None = None,
    out: Tensor | None = None,
    tap: Tensor | None = None,
    precision: str = "fp32",
    backend: str = "auto",
) -> Tensor:
    """Return the largest element of each window of `conv`'s results.

    x, weight, bias, stride, padding, dilation, groups, activation, precision   as in `conv`
    kernel   of a window, an int or (vertical, horizontal), at most 16 elements; windows lie side by
             side and cover what they can
    out      `[K, B, O, OH / vertical, OW / horizontal]`, rounded down; allocated if None
    tap      uint8, as out: the place of each maximum in its window, row by row, for
             `conv_pool_backward`; of equals the first
    Raises TypeError/ValueError naming the argument.
    """


@operation(
    In("x", "K B C H W"),
    *WINDOW,
    In("weight", "K O G M N", check=grouped, using="x groups"),
    Made("planes", check=places, using="x weight stride padding dilation", passed=False),
    Argument("kernel", check=_kernel, using="planes", passed=False),
    Made("P Q", check=_pooled, using="planes kernel", passed=False),
    In("out", "K B O P Q"),
    In("tap", "K B O P Q", torch.uint8, check=_taps, using="out"),
    InOut("dout", "K B O P Q", may="out"),
    Made("geometry", check=Geometry, using="stride padding dilation groups"),
    Made("windows", check=Windows, using="planes kernel"),
    ACTIVATION,
    Out("dx", "K B C H W", optional=True),
    Require("sinks", check=need_sinks, using="dweight dbias squares"),
    *sinks("K O G M N", "K O"),
    PRECISION,
    Squares("squares", of="dweight dbias"),
    moves="x + weight + out + tap + 2 dout + dx + 2 dweight + 2 dbias",
)
def conv_pool_backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    tap: Tensor,
    dout: Tensor,
    *,
    kernel: Ints,
    dweight: Tensor | None = None,
    dbias: Tensor | None = None,
    dx: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    activation: str | None = None,
    alpha: Coefficient = 1.0,
    beta: Coefficient = 0.0,
    base_weight: Tensor | None = None,
    base_bias: Tensor | None = None,
    squares: Tensor | None = None,
    precision: str = "fp32",
    backend: str = "auto",
) -> None:
    """Write the gradients of `conv_pool` into dx, dweight and dbias, in this order.

    x, weight, out, tap   as given to, returned and written by `conv_pool`
    dout   as out; workspace: what it holds afterwards differs between backends
    dx, dweight, dbias, squares and all others   as in `conv_backward`
    Raises TypeError/ValueError naming the argument.
    """


def _sides(x: Tensor) -> Pair:
    return x.shape[3], x.shape[4]


@operation(
    In("x", "K B C H W"),
    Made("planes", check=_sides, using="x", passed=False),
    Argument("kernel", check=_kernel, using="planes", passed=False),
    Made("P Q", check=_pooled, using="planes kernel", passed=False),
    Made("windows", check=Windows, using="planes kernel"),
    Out("out", "K B C P Q"),
    In("tap", "K B C P Q", torch.uint8, check=_taps, using="out"),
    returns="out",
    moves="x + out + tap",
)
def pick(
    x: Tensor,
    *,
    kernel: Ints,
    tap: Tensor,
    out: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return of each window of x the element that `tap` names.

    x        `[K, B, C, H, W]`
    kernel   of a window, as in `conv_pool`
    tap      uint8 `[K, B, C, H / vertical, W / horizontal]`, as `conv_pool` writes it: a place in
             its window, row by row; which element one beyond the window is, is not defined
    out      as tap, allocated if None
    Raises TypeError/ValueError naming the argument.
    """
