"""`pool` and `adaptive_avg` with their backwards: windows over images `[K, B, C, H, W]`.

    max   out = max over the window, argmax = where (row * W + column in the plane)
    avg   out = sum over the window / its size
    backward: dx = sum over the windows that hold an element of their share of dout

Operations of a client: B C OH OW kh kw comparisons or additions. Bytes (f = element size): f times
the image and the result once each, 4 more per result for argmax.
Deterministic: a client is one thread's work, windows are added in order; in Triton every element is
one thread's.
Source: torch's max_pool2d, avg_pool2d and adaptive_avg_pool2d, whose rules these are (NaN wins, of
equals the first, padding is never the largest).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._blocks import dense_integers
from ._images import Ints, Pair, at_least_0, at_least_1, pair, reach
from .declaration import Argument, Choice, In, Made, Number, Out, Require
from .geometry import Geometry
from .operation import operation

KINDS = ("max", "avg")


def _geometry(kernel: Pair, stride: Ints | None, padding: Pair) -> Geometry:
    if 2 * padding[0] > kernel[0] or 2 * padding[1] > kernel[1]:
        raise ValueError(f"padding: expected at most half of the kernel {kernel}; got {padding}")
    return Geometry(kernel if stride is None else pair("stride", stride, 1), padding)


def _places(x: Tensor, kernel: Pair, g: Geometry) -> Pair:
    return reach("kernel", (x.shape[3], x.shape[4]), kernel, g.stride, g.padding, (1, 1))


def _argmax(name: str, argmax: Tensor, kind: str, out: Tensor) -> Tensor:
    if kind != "max":
        raise ValueError(f"{name}: expected None with kind={kind!r}; got a tensor")
    return dense_integers(name, argmax, out.shape, torch.int32, out)


def _needs_argmax(kind: str, argmax: Tensor | None) -> None:
    if kind == "max" and argmax is None:
        raise ValueError("argmax: expected what pool(kind='max', argmax=...) wrote; got None")


@operation(
    In("x", "K B C H W"),
    Choice("kind", options=KINDS),
    Argument("kernel", check=at_least_1),
    Argument("stride", passed=False),
    Argument("padding", check=at_least_0, passed=False),
    Made("geometry", check=_geometry, using="kernel stride padding"),
    Made("P Q", check=_places, using="x kernel geometry", passed=False),
    Number("count_include_pad", type=bool),
    Out("out", "K B C P Q"),
    Out("argmax", "K B C P Q", torch.int32, optional=True, check=_argmax, using="kind out"),
    returns="out",
    moves="x + out + argmax",
)
def pool(
    x: Tensor,
    kind: str,
    kernel: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    *,
    count_include_pad: bool = True,
    out: Tensor | None = None,
    argmax: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return the largest element ("max") or the mean ("avg") of each window.

    x        `[K, B, C, H, W]`
    kernel, stride, padding   ints or (vertical, horizontal); stride defaults to the kernel, padding
             is at most half of it
    count_include_pad         whether padding counts in a mean's divisor
    out      `[K, B, C, OH, OW]`, OH = (H + 2 padding - kh) / stride + 1; allocated if None
    argmax   int32, as out: where each maximum lies, for `pool_backward`; only for "max"
    Raises TypeError/ValueError naming the argument.
    """


@operation(
    Choice("kind", options=KINDS),
    Require("places", check=_needs_argmax, using="kind argmax"),
    Argument("kernel", check=at_least_1),
    Argument("stride", passed=False),
    Argument("padding", check=at_least_0, passed=False),
    Made("geometry", check=_geometry, using="kernel stride padding"),
    Number("count_include_pad", type=bool),
    Out("dx", "K B C H W"),
    Made("P Q", check=_places, using="dx kernel geometry", passed=False),
    In("dout", "K B C P Q"),
    In("argmax", "K B C P Q", torch.int32, optional=True, check=_argmax, using="kind dout"),
    like="dx",
    returns="dx",
    moves="dout + argmax + dx",
)
def pool_backward(
    dout: Tensor,
    kind: str,
    kernel: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    *,
    dx: Tensor,
    argmax: Tensor | None = None,
    count_include_pad: bool = True,
    backend: str = "auto",
) -> Tensor:
    """Write and return the gradient `dx` `[K, B, C, H, W]` of `pool`; `argmax` as it left it.

    Raises TypeError/ValueError naming the argument.
    """


@operation(
    In("x", "K B C H W"),
    Argument("output_size", check=at_least_1, passed=False),
    Made("P Q", check=tuple, using="output_size", passed=False),
    Out("out", "K B C P Q"),
    returns="out",
    moves="x + out",
)
def adaptive_avg(
    x: Tensor, output_size: Ints, *, out: Tensor | None = None, backend: str = "auto"
) -> Tensor:
    """Return means over OH x OW nearly equal windows: `[K, B, C, H, W]` -> `[K, B, C, OH, OW]`.

    output_size   an int or (OH, OW); window i of OH spans rows i H / OH to (i + 1) H / OH, the
                  first rounded down, the second up
    Raises TypeError/ValueError naming the argument.
    """


@operation(
    In("dout", "K B C P Q"),
    Out("dx", "K B C H W"),
    like="dx",
    returns="dx",
    moves="dout + dx",
)
def adaptive_avg_backward(dout: Tensor, *, dx: Tensor, backend: str = "auto") -> Tensor:
    """Write and return the gradient `dx` `[K, B, C, H, W]` of `adaptive_avg`.

    Raises TypeError/ValueError naming the argument.
    """
