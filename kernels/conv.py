"""`conv` and `conv_backward`: K clients' convolutions, each with its own weights.

    out = act(x * w + b)
    dz  = dout act'(out),  dx = dz * turned(w),  dw = beta w0 + alpha sum_b x_b * dz_b,  db likewise

Floating point operations of a client: 2 B O OH OW (C / groups) kh kw forward, the same for dx and
for dw. Bytes: x, w and out once each; nothing is unfolded in memory.
Deterministic: a client's images are added in an order that the shapes decide, whatever threads it
is cut between; no sum is split.
Sources: native, direct sums over blocks of channels, as in Georganas et al. 2018 (SC18), with
the client's images copied once into a zero margin, see `csrc/cpu/conv_kernels.h`; where windows lie
one pixel apart and channels are many, minimal filtering as in Lavin and Gray (CVPR 2016), see
`csrc/cpu/conv_squares.h`: fewer products, errors within three times those of direct sums; a NaN
then spreads to its neighbours within the image. Triton, implicit matrix products as in Chetlur et
al. 2014 (cuDNN), see `triton/conv_correlate.py`.
"""

from __future__ import annotations

from torch import Tensor

from ._args import Coefficient
from ._blocks import block
from ._images import MAX_ELEMENTS, WINDOW, Ints, Pair, divides, reach
from .declaration import In, InOut, Made, Out, Require, Squares, sinks
from .geometry import Geometry
from .linear import ACTIVATION, PRECISION, need_sinks
from .operation import operation


def grouped(name: str, weight: Tensor, x: Tensor, groups: int) -> Tensor:
    """The weight `[K, O, C / groups, kh, kw]`, checked."""
    channels = x.shape[2]
    divides("groups", groups, "input channels", channels)
    own = weight.shape if isinstance(weight, Tensor) and weight.ndim > 3 else (0, 0, 0, 0)
    weight = block(name, weight, (x.shape[0], own[-4], channels // groups, *own[-2:]), x)
    divides("groups", groups, "output channels", weight.shape[1])
    return weight


def places(x: Tensor, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """The sides of the results."""
    size, taps = (x.shape[3], x.shape[4]), (weight.shape[3], weight.shape[4])
    out = reach("weight", size, taps, stride, padding, dilation)
    margins = [s + 2 * p + d * t for s, t, p, d in zip(size, taps, padding, dilation, strict=True)]
    if max(x.shape[2], weight.shape[1]) * margins[0] * margins[1] > MAX_ELEMENTS:
        raise ValueError(f"x: expected images of less than 2**31 elements; got {list(x.shape[2:])}")
    return out


@operation(
    In("x", "K B C H W"),
    *WINDOW,
    In("weight", "K O G M N", check=grouped, using="x groups"),
    In("bias", "K O", optional=True),
    Made("geometry", check=Geometry, using="stride padding dilation groups"),
    Made("P Q", check=places, using="x weight stride padding dilation", passed=False),
    ACTIVATION,
    Out("out", "K B O P Q"),
    PRECISION,
    returns="out",
    moves="x + weight + bias + out",
)
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    activation: str | None = None,
    out: Tensor | None = None,
    precision: str = "fp32",
    backend: str = "auto",
) -> Tensor:
    """Return `out = act(x * weight + bias)`, a cross-correlation as in `torch.nn.Conv2d`.

    x           `[K, B, C, H, W]`
    weight      `[K, O, C / groups, kh, kw]` with any stride over K, or one for all clients
    bias        `[K, O]`, `[O]` or None
    stride, padding, dilation   ints or (vertical, horizontal)
    activation  None, "relu" or "tanh"
    out         `[K, B, O, OH, OW]`, OH = (H + 2 padding - dilation (kh - 1) - 1) / stride + 1;
                allocated if None; must not overlap x
    precision   "fp32", "tf32x3", "tf32" or "bf16": how far float32 products may be rounded on
                tensor cores; a permission, see `_args.PRECISIONS`: other backends ignore it
    Every client's part of an argument is contiguous.
    Raises TypeError/ValueError naming the argument.
    """


@operation(
    In("x", "K B C H W"),
    *WINDOW,
    In("weight", "K O G M N", check=grouped, using="x groups"),
    Made("P Q", check=places, using="x weight stride padding dilation", passed=False),
    In("out", "K B O P Q"),
    InOut("dout", "K B O P Q", may="out"),
    Made("geometry", check=Geometry, using="stride padding dilation groups"),
    ACTIVATION,
    Out("dx", "K B C H W", optional=True),
    Require("sinks", check=need_sinks, using="dweight dbias squares"),
    *sinks("K O G M N", "K O"),
    PRECISION,
    Squares("squares", of="dweight dbias"),
    moves="x + weight + out + 2 dout + dx + 2 dweight + 2 dbias",
)
def conv_backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    dout: Tensor,
    *,
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
    """Write the gradients of `conv` into dx, dweight and dbias, in this order.

    x, weight, out   as given to and returned by `conv`
    dout             `[K, B, O, OH, OW]`, multiplied in place by act'(out)
    dx               as x, or None if nobody needs it
    dweight, dbias   `beta * base + alpha * gradient`, or None where the parameter is frozen;
                     dweight may be weight, since dx is done then
    alpha, beta      numbers or `[K]`; where beta is 0 base is not read
    base_weight, base_bias   default to dweight and dbias themselves. With alpha = -eta, beta =
                     1 - eta * decay and the current weights as base this is a plain SGD step
    squares     float64 `[K]`, or None: the sum of squares of what dweight and dbias receive; in
                Triton it comes with the products, and costs no pass over them
    precision   "fp32", "tf32x3", "tf32" or "bf16": how far float32 products may be rounded on
                tensor cores; a permission, see `_args.PRECISIONS`: other backends ignore it
    Raises TypeError/ValueError naming the argument.
    """
