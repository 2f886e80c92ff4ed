"""The Triton backend of `conv` and `conv_backward`, interpreted: small layers against autograd."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from fedfast.kernels import conv, conv_backward
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from images import close, poison
from layer_cases import same
from test_conv import SHAPES, Layer, check, run

pytest.importorskip("triton", reason="Triton is not installed on this platform")

from fedfast.kernels.triton.conv_offsets import Side, margins, turned_sides  # noqa: E402

# Beside shapes of their own the small ones of the other backends; the interpreter is slow.
LAYERS = {
    name: replace(SHAPES[name], batch=1)
    for name in ("padded", "strided", "1x1", "dilated", "over-padded", "shared", "one")
} | {
    "many-rows": Layer(batch=1, channels=5, outputs=70, image=(4, 4), padding=(1, 1)),
    "many-terms": Layer(batch=1, channels=12, outputs=17, image=(5, 4), bias=False),
    "many-pixels": Layer(batch=2, channels=1, outputs=9, image=(12, 12), kernel=(3, 2)),
    "depthwise": Layer(channels=3, outputs=3, groups=3, padding=(1, 1), stride=(1, 2)),
    "grouped": Layer(batch=1, channels=4, outputs=10, groups=2, stride=(2, 1), padding=(1, 1)),
    "doubling": Layer(channels=3, outputs=6, groups=3, kernel=(2, 2), activation="tanh"),
    "stride-over-taps": Layer(kernel=(1, 2), stride=(2, 3), image=(7, 8)),
    "stride-and-dilation": Layer(
        kernel=(3, 3), stride=(4, 2), dilation=(2, 4), image=(9, 12), padding=(2, 3)
    ),
}
every_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())


@pytest.mark.parametrize(
    ("name", "dtype"), [("padded", torch.float32), ("depthwise", torch.float64)]
)
def test_a_folded_step_in_place(name: str, dtype: torch.dtype) -> None:
    """dweight is weight, dbias is bias: what is written is the weights after the step."""
    layer = replace(LAYERS[name], dtype=dtype)
    plain = run(layer, "triton")
    x, weight, bias = layer.tensors()
    alpha, beta = torch.tensor([-0.5, -0.25], dtype=dtype), torch.tensor([0.75, 0.0], dtype=dtype)
    expected_w = beta.view(-1, 1, 1, 1, 1) * weight + alpha.view(-1, 1, 1, 1, 1) * plain["dweight"]
    expected_b = beta[:, None] * bias + alpha[:, None] * plain["dbias"]
    options: dict[str, Any] = layer.geometry | dict(activation=layer.activation, backend="triton")
    out = conv(x, weight, bias, **options)
    dx, sinks = poison(*x.shape, dtype=dtype), dict(dweight=weight, dbias=bias)
    conv_backward(
        x, weight, out, plain["given"].clone(), dx=dx, alpha=alpha, beta=beta, **sinks, **options
    )
    close(weight, expected_w)
    close(bias, expected_b)
    same(dx, plain["dx"])


def test_where_beta_is_zero_the_base_is_not_read() -> None:
    layer = LAYERS["one"]
    x, weight, _ = layer.tensors()
    out = conv(x, weight, backend="triton")
    base, dweight = torch.full_like(weight, torch.nan), torch.full_like(weight, torch.nan)
    sinks: dict[str, Any] = dict(dweight=dweight, base_weight=base)
    conv_backward(x, weight, out, torch.ones_like(out), backend="triton", **sinks)
    close(dweight, x.sum((1, 3, 4), keepdim=True))


PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=4, deadline=None)
@given(data=st.data())
def test_any_shape(data: st.DataObject) -> None:
    groups, kernel = data.draw(st.integers(1, 3)), data.draw(PAIRS)
    stride, dilation = data.draw(PAIRS), data.draw(PAIRS)
    padding = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    least = [
        max(1, d * (t - 1) + 1 - 2 * p) for d, t, p in zip(dilation, kernel, padding, strict=True)
    ]
    height, width = (data.draw(st.integers(size, size + 5)) for size in least)
    channels, outputs = (groups * data.draw(st.integers(1, 6)) for _ in range(2))
    layer = Layer(
        batch=data.draw(st.integers(1, 2)),
        channels=channels,
        outputs=outputs,
        image=(height, width),
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        activation=data.draw(st.sampled_from([None, "relu", "tanh"])),
        bias=data.draw(st.booleans()),
        dtype=torch.float64,
    )
    check(layer, "triton")


@given(
    size=st.integers(1, 7),
    taps=st.integers(1, 4),
    stride=st.integers(1, 4),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 3),
)
def test_where_no_tap_lies_outside_nothing_is_asked(
    size: int, taps: int, stride: int, padding: int, dilation: int
) -> None:
    """By enumeration of all taps of all places, of the convolution and of its data gradient."""
    reach = size + 2 * padding - dilation * (taps - 1)
    assume(reach > 0)
    out = -(-reach // stride)
    forward = Side(size, stride, -padding, dilation, out, 1, 0, out, taps)
    for side in [forward, *turned_sides(size, taps, out, stride, padding, dilation)]:
        read = {
            side.first + place * side.stride + tap * side.step
            for place in range(side.places)
            for tap in range(side.taps)
        }
        within = Side(1, 1, 0, 1, 1, 1, 0, 1, 1)
        assert margins([side, within]) == (not read <= set(range(side.extent)))
