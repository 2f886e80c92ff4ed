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

from . import native_images
from ._args import Coefficient, precise
from ._blocks import block, float64_per_client, floating, written
from ._images import MAX_ELEMENTS, Ints, divides, number, pair, reach, sinks
from .geometry import Geometry
from .linear import _fused
from .reference import conv as reference
from .registry import dispatch
from .triton import conv as triton


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
                tensor cores; a permission, see `_args.precise`: the other voices ignore it
    Every client's part of an argument is contiguous.
    Raises TypeError/ValueError naming the argument.
    """
    x = floating("x", x, "K, B, C, H, W")
    geometry = _geometry(stride, padding, dilation, groups)
    weight = _weight(x, weight, geometry)
    if bias is not None:
        bias = block("bias", bias, weight.shape[:2], x)
    out = written("out", out, _out_shape(x, weight, geometry), x)
    args = (x, weight, bias, geometry, _fused(activation), out, precise(precision))
    return dispatch(_CONV, backend, x, *args)


def conv_backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    dout: Tensor,
    *,
    dweight: Tensor,
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
    dweight, dbias   `beta * base + alpha * gradient`; dweight may be weight, since dx is done then
    alpha, beta      numbers or `[K]`; where beta is 0 base is not read
    base_weight, base_bias   default to dweight and dbias themselves. With alpha = -eta, beta =
                     1 - eta * decay and the current weights as base this is a plain SGD step
    squares     float64 `[K]`, or None: the sum of squares of what dweight and dbias receive; in
                Triton it comes with the products, and costs no pass over them
    precision   "fp32", "tf32x3", "tf32" or "bf16": how far float32 products may be rounded on
                tensor cores; a permission, see `_args.precise`: the other voices ignore it
    Raises TypeError/ValueError naming the argument.
    """
    x = floating("x", x, "K, B, C, H, W")
    geometry = _geometry(stride, padding, dilation, groups)
    weight = _weight(x, weight, geometry)
    shape = _out_shape(x, weight, geometry)
    out, dout = block("out", out, shape, x), written("dout", dout, shape, x)
    dx = None if dx is None else written("dx", dx, x.shape, x)
    bases = (base_weight, base_bias)
    to = sinks(x, weight.shape, dweight, dbias, weight.shape[:2], (alpha, beta), bases)
    args = (x, weight, out, dout, geometry, _fused(activation), dx, *to, precise(precision))
    dispatch(_CONV_BACKWARD, backend, x, *args, float64_per_client("squares", squares, x))


def _geometry(stride: Ints, padding: Ints, dilation: Ints, groups: int) -> Geometry:
    window = pair("stride", stride, 1), pair("padding", padding, 0), pair("dilation", dilation, 1)
    return Geometry(*window, number("groups", groups, 1))


def _weight(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    groups, channels = geometry.groups, x.shape[2]
    divides("groups", groups, "input channels", channels)
    own = weight.shape if isinstance(weight, Tensor) and weight.ndim > 3 else (0, 0, 0, 0)
    weight = block("weight", weight, (x.shape[0], own[-4], channels // groups, *own[-2:]), x)
    divides("groups", groups, "output channels", weight.shape[1])
    return weight


def _out_shape(x: Tensor, weight: Tensor, g: Geometry) -> tuple[int, ...]:
    size, taps = (x.shape[3], x.shape[4]), (weight.shape[3], weight.shape[4])
    out = reach("weight", size, taps, g.stride, g.padding, g.dilation)
    margins = [
        s + 2 * p + d * t for s, t, p, d in zip(size, taps, g.padding, g.dilation, strict=True)
    ]
    if max(x.shape[2], weight.shape[1]) * margins[0] * margins[1] > MAX_ELEMENTS:
        raise ValueError(f"x: expected images of less than 2**31 elements; got {list(x.shape[2:])}")
    return (*x.shape[:2], weight.shape[1], *out)


_CONV = {
    "reference": reference.conv,
    "native": native_images.conv,
    "triton": triton.conv,
}
_CONV_BACKWARD = {
    "reference": reference.conv_backward,
    "native": native_images.conv_backward,
    "triton": triton.conv_backward,
}
