"""Forms of the operations on images; see `operation_forms.py`."""

from __future__ import annotations

from typing import Any

import torch
from fedfast.kernels import pool
from operation_inputs import Cases, Draw, Form
from operation_layers import PLAIN, counts, integers, positive
from torch import Tensor

Pair = tuple[int, int]


def layer(
    channels: int,
    outputs: int,
    image: Pair,
    kernel: Pair = (3, 3),
    B: int = 2,  # noqa: N803
    window: Pair = (1, 1),
    **geometry: Any,
) -> Form:
    """A convolution; `geometry` as its arguments, `window` of the pooling behind it."""
    groups = geometry.setdefault("groups", 1)
    one = torch.empty(1, channels, *image, device="meta")
    weight = torch.empty(outputs, channels // groups, *kernel, device="meta")
    P, Q = torch.nn.functional.conv2d(one, weight, **geometry).shape[2:]
    sizes = dict(B=B, C=channels, O=outputs, H=image[0], W=image[1], M=kernel[0], N=kernel[1])
    return sizes | dict(G=channels // groups, P=P // window[0], Q=Q // window[1], **geometry)


# For every backend: tiles, edges, groups and windows of each kind; the interpreter is slow.
SMALL: dict[str, Form] = {
    "one": layer(1, 1, (1, 1), (1, 1), 1),
    "padded": layer(4, 6, (9, 8), padding=(2, 1), B=1),
    "depthwise": layer(3, 3, (9, 8), groups=3, padding=(1, 1), stride=(1, 2)),
    "strided": layer(4, 17, (11, 13), stride=(2, 3), padding=(1, 2), B=1),
    "1x1": layer(16, 5, (9, 8), (1, 1), B=1),
    "dilated": layer(4, 6, (13, 12), (3, 2), dilation=(2, 3), padding=(2, 1), B=1),
    "over-padded": layer(4, 6, (4, 3), (2, 1), padding=(3, 2), B=1),
    "many rows": layer(5, 70, (4, 4), padding=(1, 1), B=1),
    "many terms": layer(12, 17, (5, 4), B=1),
    "many pixels": layer(1, 9, (12, 12), (3, 2)),
    "grouped": layer(4, 10, (9, 8), groups=2, stride=(2, 1), padding=(1, 1), B=1),
    "doubling": layer(3, 6, (9, 8), (2, 2), groups=3),
    "stride over taps": layer(4, 6, (7, 8), (1, 2), stride=(2, 3)),
    "stride and dilation": layer(
        4, 6, (9, 12), stride=(4, 2), dilation=(2, 4), padding=(2, 3), B=1
    ),
    "tap by tap": layer(17, 18, (5, 6), padding=(1, 1), B=1),
    "tap by tap, grouped": layer(
        34, 36, (6, 5), (2, 3), groups=2, stride=(2, 1), dilation=(1, 2), padding=(1, 2), B=1
    ),
    "pixels in parts": layer(1, 5, (24, 24), B=1),
    "depthwise in parts": layer(2, 2, (26, 26), groups=2, B=4),
}
# One for each way in which the compiled operation forms products.
NATIVE: dict[str, Form] = {
    "plain": layer(4, 6, (9, 8), B=3),
    "first layer": layer(1, 32, (28, 28), (5, 5), padding=(2, 2), B=3),
    "first colour": layer(3, 64, (32, 32), (5, 5), B=3),
    "interior": layer(32, 64, (14, 14), (5, 5), padding=(2, 2), B=3),
    "small images": layer(20, 40, (4, 4), padding=(1, 1), B=7),
    "few channels": layer(4, 12, (12, 12), (5, 5), B=5),
    "strided 1x1": layer(33, 65, (9, 8), (1, 1), stride=(2, 2), B=3),
    "four groups": layer(8, 20, (9, 8), groups=4, padding=(1, 1), stride=(2, 1), B=3),
    "six groups": layer(6, 6, (9, 8), groups=6, padding=(1, 1), B=3),
    "whole image": layer(4, 3, (9, 8), (9, 8), B=3),
    "wide": layer(2, 3, (3, 70), padding=(1, 1), B=3),
    "squares": layer(20, 70, (9, 7), padding=(1, 1), B=3),
    "squares 5x5": layer(17, 33, (10, 11), (5, 5), padding=(2, 2), B=3),
    "squares 4x7": layer(16, 32, (9, 13), (4, 7), padding=(1, 2), B=3),
    "squares grouped": layer(40, 64, (8, 8), groups=2, B=3),
}
LARGE = {  # enough work for several threads, which share a client where there are few
    "direct": layer(24, 40, (21, 21), stride=(2, 2), B=28),
    "rows": layer(1, 20, (40, 40), (5, 5), B=56),
    "squares": layer(24, 80, (13, 12), padding=(1, 1), B=28),
    "groups": layer(32, 64, (20, 20), groups=2, B=28),
}
CONVOLUTIONS = dict(
    small=tuple(SMALL.values()),
    native=tuple(NATIVE.values()),
    large=tuple((clients, form) for form in LARGE.values() for clients in (1, 3)),
)


def pooled(window: Pair, *layer_of: Any, **more: Any) -> Form:
    return layer(*layer_of, window=window, **more) | dict(kernel=window)


POOLED = dict(
    small=(
        pooled((2, 2), 2, 3, (7, 6), padding=1),
        pooled((3, 2), 4, 10, (9, 9), groups=2, stride=(1, 2), B=1),
        pooled((4, 2), 2, 5, (8, 8), (1, 1), B=1),
        pooled((2, 2), 17, 18, (6, 6), padding=1, B=1),
        pooled((2, 2), 1, 3, (34, 34), B=1),
    ),
    native=(
        pooled((2, 2), 1, 8, (28, 28), (5, 5), padding=2, B=3),
        pooled((2, 2), 3, 40, (36, 36), (5, 5), B=3),
        pooled((2, 2), 32, 64, (14, 14), (5, 5), padding=2, B=3),
        pooled((2, 2), 4, 12, (12, 12), (5, 5), B=7),
        pooled((2, 2), 2, 5, (9, 7), (2, 2), stride=(1, 2), padding=1),
        pooled((3, 2), 4, 6, (11, 13), groups=2, dilation=(1, 2)),
    ),
    large=((3, pooled((2, 2), 4, 12, (12, 12), (5, 5), B=70)),),
)
TAPS: Form = dict(tap=integers("kernel[0]*kernel[1]", "K B O P Q", torch.uint8))
TAPS_OF_X: Form = dict(tap=integers("kernel[0]*kernel[1]", "K B C P Q", torch.uint8))


def picked(kernel: Pair, image: Pair, **more: Any) -> Form:
    P, Q = (s // k for s, k in zip(image, kernel, strict=True))
    return dict(B=2, C=3, H=image[0], W=image[1], P=P, Q=Q, kernel=kernel) | more


PICKED = dict(
    small=(picked((2, 2), (7, 6)), picked((3, 2), (9, 9)), picked((1, 1), (2, 3), B=1)),
    native=(picked((2, 2), (70, 68)), picked((2, 4), (6, 50))),
    large=((3, picked((2, 2), (28, 28), B=30, C=9)),),
)
BACKWARD: dict[str, Form] = {
    "folded": dict(activation="relu"),
    "gradients": PLAIN | dict(activation="tanh", without="squares base_weight base_bias"),
    "weight alone": PLAIN | dict(activation=None, without="dx dbias squares base_weight base_bias"),
}


def small(draw: Draw) -> Tensor:
    """Numbers for which tanh differs from 1 in float32 too: of equals the first is largest."""
    return draw.laid_out(draw.numbers(*draw.shape("K B C H W")) / 32)


FORWARD: dict[str, Form] = {
    "relu": dict(activation="relu"),
    "tanh, no bias": dict(activation="tanh", without="bias", x=small),
}


def window(kernel: Pair, stride: Pair, padding: Pair = (0, 0), image: Pair = (9, 11)) -> Form:
    P, Q = (
        (s + 2 * p - k) // step + 1
        for s, p, k, step in zip(image, padding, kernel, stride, strict=True)
    )
    sides = dict(H=image[0], W=image[1], P=P, Q=Q)
    return sides | dict(B=2, C=3, kernel=kernel, stride=stride, padding=padding)


WINDOWS = dict(
    small=(
        window((2, 2), (2, 2)),
        window((3, 3), (2, 2), (1, 1)),
        window((2, 3), (1, 1), (1, 0)),
        window((1, 2), (3, 3)),
        window((9, 11), (1, 1)),
    ),
    large=((5, window((3, 3), (2, 2), (1, 1), (17, 18)) | dict(B=8, C=6)),),
)
SIDES = dict(
    small=tuple(
        dict(B=2, C=3, H=9, W=11, P=p, Q=q, output_size=(p, q))
        for p, q in ((1, 1), (1, 3), (4, 5), (9, 11), (10, 12))
    ),
    large=((5, dict(B=8, C=6, H=17, W=18, P=3, Q=3, output_size=3)),),
)


def places(draw: Draw) -> Tensor:
    """Where the maxima of some images lie."""
    images = draw.numbers(*draw.shape("K B C H W"))
    found = torch.empty(draw.shape("K B C P Q"), dtype=torch.int32)
    own = {name: draw.form[name] for name in ("kernel", "stride", "padding")}
    pool(images, "max", **own, argmax=found, backend="reference")
    return found


def channels(B: int, C: int, *rest: int, groups: int = 1) -> Form:  # noqa: N803
    return dict(B=B, C=C, rest=rest, groups=groups, G=groups)


NORMS = dict(
    small=(channels(12, 7), channels(3, 4, 5, groups=2), channels(12, 7, 4, 9)),
    native=(channels(12, 7, 16, 16), channels(3, 12, 3, 3, groups=12), channels(3, 12, groups=3)),
    large=((5, channels(6, 8, 9, 10, groups=4)), (1, channels(60, 8, 9, 10, groups=4))),
)
GROUPS = NORMS | dict(
    small=(
        *(channels(3, 4, 5, groups=2), channels(3, 12, 4, 5), channels(3, 12, 16, groups=4)),
        channels(3, 12, groups=3),
    ),
    native=(channels(3, 12, 3, 3, groups=12), channels(12, 7, 16, 16), channels(3, 12, 11, 9)),
)
RUNNING: Form = dict(running_var=positive("K C"))
TRAINED: Form = dict(training=True, count=counts(0))
NORM_BACKWARD: dict[str, Form] = {
    "folded": dict(rstd=positive("K C")),
    "gradients": PLAIN | dict(rstd=positive("K C"), without="weight base_weight base_bias"),
    "input alone": PLAIN
    | dict(rstd=positive("K C"), without="dweight dbias base_weight base_bias"),
}

AVERAGES: dict[str, Form] = {
    "avg": dict(kind="avg", without="argmax"),
    "avg inside": dict(kind="avg", without="argmax", count_include_pad=False),
}

IMAGES: dict[str, Cases] = {
    "conv": Cases(FORWARD, **CONVOLUTIONS),
    "conv_backward": Cases(BACKWARD, **CONVOLUTIONS),
    "conv_pool": Cases(FORWARD, **POOLED),
    "conv_pool_backward": Cases({n: f | TAPS for n, f in BACKWARD.items()}, **POOLED),
    "pick": Cases({"at taps": TAPS_OF_X}, **PICKED),
    "pool": Cases(
        {"max": dict(kind="max")} | AVERAGES,
        **WINDOWS,
    ),
    "pool_backward": Cases(
        {"max": dict(kind="max", argmax=places)} | AVERAGES,
        **WINDOWS,
    ),
    "adaptive_avg": Cases({"means": {}}, **SIDES),
    "adaptive_avg_backward": Cases({"means": {}}, **SIDES),
    "batch_norm": Cases(
        {
            "training": RUNNING | TRAINED,
            "evaluation": RUNNING | dict(training=False, count=None),
            "no weights": TRAINED | dict(without="weight bias running_mean running_var"),
        },
        **NORMS,
    ),
    "batch_norm_backward": Cases(
        {
            n: f | (TRAINED if n != "gradients" else dict(training=False, count=None))
            for n, f in NORM_BACKWARD.items()
        },
        **NORMS,
    ),
    "group_norm": Cases({"weights": {}, "no weights": dict(without="weight bias")}, **GROUPS),
    "group_norm_backward": Cases(
        {n: f | dict(rstd=positive("K B G")) for n, f in NORM_BACKWARD.items()}, **GROUPS
    ),
    "gather": Cases(
        {
            "copies": dict(
                bank=lambda d: d.numbers(*d.shape("N C H W")),
                rows=integers("N", "K B"),
                without="scale shift margin offset flip",
            ),
            "bytes": dict(
                bank=integers("256", "N C H W", torch.uint8),
                rows=integers("N", "K B"),
                without="scale shift margin offset flip",
            ),
            "images": dict(
                bank=integers("256", "N C H W", torch.uint8),
                rows=integers("N", "K B"),
                offset=lambda d: d.integers(9, *d.shape("K B 2"), dtype=torch.int32) - 4,
                flip=integers("2", "K B", torch.uint8),
            ),
        },
        small=tuple(
            dict(N=9, B=b, C=c, H=h, W=w, rest=(c, h, w))
            for b, c, h, w in ((1, 1, 1, 1), (4, 3, 7, 9), (2, 1, 3, 40))
        ),
        large=((5, dict(N=90, B=60, C=3, H=32, W=32, rest=(3, 32, 32))),),
    ),
}
