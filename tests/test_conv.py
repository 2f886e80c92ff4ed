"""`conv` and `conv_backward` against torch's autograd in float64, and what they promise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pytest
import torch
from fedfast.kernels import conv, conv_backward, native
from hypothesis import given, settings
from hypothesis import strategies as st
from images import close, draw, every_backend, every_dtype, generator, in_rows, poison
from layer_cases import same, threads
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Layer:
    """K clients' convolution; the numbers follow from the shape and the seed."""

    clients: int = 2
    batch: int = 3
    channels: int = 4
    outputs: int = 6
    image: tuple[int, int] = (9, 8)
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    activation: str | None = None
    bias: bool = True
    shared: bool = False
    seed: int = 0
    dtype: torch.dtype = torch.float32

    @property
    def geometry(self) -> dict[str, Any]:
        return dict(
            stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups
        )

    def tensors(self) -> tuple[Tensor, Tensor, Tensor | None]:
        random = generator(self.seed)
        x = draw(random, self.clients, self.batch, self.channels, *self.image, dtype=self.dtype)
        shape = (self.outputs, self.channels // self.groups, *self.kernel)
        owners = 1 if self.shared else self.clients
        weight = draw(random, owners, *shape, dtype=self.dtype)
        bias = draw(random, owners, self.outputs, dtype=self.dtype) if self.bias else None
        if self.shared:
            shared = None if bias is None else bias.expand(self.clients, -1)
            return x, weight.expand(self.clients, *shape), shared
        return in_rows(x), in_rows(weight), None if bias is None else in_rows(bias, 3)

    def torch_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = F.conv2d(x, weight, bias, **self.geometry)
        return y if self.activation is None else getattr(torch, self.activation)(y)


def autograd(layer: Layer, out: Tensor, dout: Tensor) -> tuple[Tensor, ...]:
    """Output and gradients in float64, client by client; the activation's kink as `out` has it."""
    x, weight, bias = layer.tensors()
    results = []
    for k in range(layer.clients):
        own = [x[k], weight[k], bias[k] if bias is not None else torch.zeros(layer.outputs)]
        leaves = [t.detach().double().requires_grad_() for t in own]
        y = replace(layer, activation=None).torch_forward(*leaves)
        dz = dout[k].double()
        if layer.activation == "relu":
            dz = dz * (out[k] > 0)
        elif layer.activation == "tanh":
            dz = dz * (1 - y.detach().tanh() ** 2)
        grads = torch.autograd.grad(y, leaves, dz)
        results.append((layer.torch_forward(*leaves).detach(), *grads))
    return tuple(torch.stack(each) for each in zip(*results, strict=True))


def run(layer: Layer, backend: str, which: slice = slice(None), **fold: Any) -> dict[str, Any]:
    """Everything the operations write, for some of the clients."""
    x, weight, bias = (None if t is None else t[which] for t in layer.tensors())
    options = layer.geometry | {"activation": layer.activation, "backend": backend}
    shape = conv(x, weight, bias, **options).shape
    out = poison(*shape, dtype=layer.dtype)
    conv(x, weight, bias, out=out, **options)
    whole = draw(generator(9), layer.clients, *shape[1:], dtype=layer.dtype)
    dout = in_rows(whole[which])
    given = dout.clone()
    grads = {
        "dx": poison(*x.shape, dtype=layer.dtype),
        "dweight": poison(*weight.shape, dtype=layer.dtype),
        "dbias": poison(*weight.shape[:2], dtype=layer.dtype) if bias is not None else None,
    }
    conv_backward(x, weight, out, dout, **grads, **options, **fold)
    return {"out": out, **grads, "given": given}


def check(layer: Layer, backend: str) -> None:
    found = run(layer, backend)
    names = ("out", "dx", "dweight", "dbias")
    expected = autograd(layer, found["out"], found["given"])
    for name, value in zip(names, expected, strict=True):
        if found[name] is not None:
            close(found[name], value)


SHAPES = {
    "plain": Layer(),
    "padded": Layer(padding=(2, 1), activation="relu"),
    "first-layer": Layer(
        channels=1, outputs=32, image=(28, 28), kernel=(5, 5), padding=(2, 2), activation="relu"
    ),
    "first-colour": Layer(channels=3, outputs=64, image=(32, 32), kernel=(5, 5)),
    "interior": Layer(channels=32, outputs=64, image=(14, 14), kernel=(5, 5), padding=(2, 2)),
    "small-images": Layer(batch=7, channels=20, outputs=40, image=(4, 4), padding=(1, 1)),
    "few-channels": Layer(batch=5, channels=4, outputs=12, image=(12, 12), kernel=(5, 5)),
    "strided": Layer(stride=(2, 3), padding=(1, 2), image=(11, 13), outputs=17),
    "strided-1x1": Layer(kernel=(1, 1), stride=(2, 2), channels=33, outputs=65),
    "1x1": Layer(kernel=(1, 1), channels=16, outputs=5, activation="tanh"),
    "dilated": Layer(dilation=(2, 3), kernel=(3, 2), image=(13, 12), padding=(2, 1)),
    "grouped": Layer(channels=8, outputs=20, groups=4, padding=(1, 1), stride=(2, 1)),
    "depthwise": Layer(channels=6, outputs=6, groups=6, padding=(1, 1)),
    "over-padded": Layer(kernel=(2, 1), padding=(3, 2), image=(4, 3)),
    "whole-image": Layer(kernel=(9, 8), outputs=3),
    "wide": Layer(image=(3, 70), kernel=(3, 3), padding=(1, 1), channels=2, outputs=3),
    "no-bias": Layer(bias=False, activation="relu"),
    "shared": Layer(shared=True, activation="relu"),
    "squares": Layer(channels=20, outputs=70, image=(9, 7), padding=(1, 1), activation="relu"),
    "squares-5x5": Layer(channels=17, outputs=33, image=(10, 11), kernel=(5, 5), padding=(2, 2)),
    "squares-4x7": Layer(channels=16, outputs=32, image=(9, 13), kernel=(4, 7), padding=(1, 2)),
    "squares-grouped": Layer(channels=40, outputs=64, groups=2, image=(8, 8), activation="tanh"),
    "frames": Layer(
        batch=12, channels=33, outputs=49, image=(14, 14), kernel=(5, 5), padding=(2, 2)
    ),
    "frames-just-two": Layer(
        batch=9, channels=40, outputs=48, image=(15, 12), kernel=(5, 5), padding=(2, 3)
    ),
    "frames-over-padded": Layer(
        batch=9, channels=40, outputs=48, image=(9, 10), kernel=(7, 7), padding=(7, 6)
    ),
    "frames-margins": Layer(
        batch=8, channels=32, outputs=32, image=(6, 7), kernel=(5, 5), padding=(33, 2)
    ),
    "frames-unpadded": Layer(batch=9, channels=64, outputs=66, image=(16, 15), kernel=(5, 6)),
    "frames-many": Layer(
        batch=9,
        channels=40,
        outputs=46,
        image=(20, 33),
        kernel=(7, 5),
        padding=(4, 1),
        activation="relu",
    ),
    "frames-grouped": Layer(
        batch=16,
        channels=64,
        outputs=64,
        image=(9, 14),
        kernel=(8, 5),
        padding=(3, 2),
        groups=2,
        activation="relu",
    ),
    "one": Layer(clients=1, batch=1, channels=1, outputs=1, image=(1, 1), kernel=(1, 1)),
}
every_shape = pytest.mark.parametrize("layer", SHAPES.values(), ids=SHAPES.keys())


@every_backend
@every_dtype
@every_shape
def test_against_autograd(layer: Layer, dtype: torch.dtype, backend: str) -> None:
    if backend == "reference" and dtype != torch.float64:
        pytest.skip("the specification is torch's own convolution: float64 is enough")
    check(replace(layer, dtype=dtype), backend)


@every_dtype
@every_shape
@pytest.mark.parametrize("isa", [0, 1], ids=("portable", "avx2"))
def test_every_instruction_set(isa: int, layer: Layer, dtype: torch.dtype) -> None:
    native.module.gemm_limit(isa)
    try:
        check(replace(layer, dtype=dtype), "native")
    finally:
        native.module.gemm_limit(2)


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("kernel", (3, 5))
@pytest.mark.parametrize("channels", (64, 256))
@pytest.mark.parametrize("batch", (4, 12), ids=("squares", "frames for 5"))
def test_fewer_products_are_nearly_as_exact_as_direct_sums(
    batch: int, channels: int, kernel: int
) -> None:
    """Within four times the float32 error of torch's convolution."""
    layer = Layer(1, batch, channels, 64, (12, 12), (kernel,) * 2, padding=(1, 1), bias=False)
    found = run(layer, "native")
    x, weight, _ = layer.tensors()
    leaves = [t[0].clone().requires_grad_() for t in (x, weight)]
    y = F.conv2d(*leaves, padding=1)
    plain = y.detach(), *torch.autograd.grad(y, leaves, found["given"][0])
    exact = autograd(layer, found["out"], found["given"])
    for name, rival, value in zip(("out", "dx", "dweight"), plain, exact[:3], strict=True):
        assert error(found[name], value) <= 4 * error(rival, value[0]), name


PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_shape(data: st.DataObject) -> None:
    groups = data.draw(st.integers(1, 3))
    kernel, dilation = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5))), data.draw(PAIRS)
    padding = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    reach = [
        max(1, d * (t - 1) + 1 - 2 * p) for d, t, p in zip(dilation, kernel, padding, strict=True)
    ]
    image = tuple(least + data.draw(st.integers(0, 18)) for least in reach)
    layer = Layer(
        clients=data.draw(st.integers(1, 3)),
        batch=data.draw(st.integers(1, 4)),
        channels=groups * data.draw(st.integers(1, 9)),
        outputs=groups * data.draw(st.integers(1, 40)),
        image=image,
        kernel=kernel,
        stride=data.draw(PAIRS),
        padding=padding,
        dilation=dilation,
        groups=groups,
        activation=data.draw(st.sampled_from([None, "relu", "tanh"])),
        bias=data.draw(st.booleans()),
        shared=data.draw(st.booleans()),
        seed=data.draw(st.integers(0, 99)),
        dtype=data.draw(st.sampled_from([torch.float32, torch.float64])),
    )
    check(layer, "native")


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_squares(data: st.DataObject) -> None:
    """Windows one pixel apart with many channels."""
    groups, sides = data.draw(st.integers(1, 2)), st.integers(2, 7)
    kernel, padding = data.draw(st.tuples(sides, sides)), data.draw(PAIRS)
    image = tuple(max(1, k - 2 * p) for k, p in zip(kernel, padding, strict=True))
    layer = Layer(
        clients=data.draw(st.integers(1, 2)),
        batch=data.draw(st.integers(1, 6)),
        channels=groups * data.draw(st.integers(8, 40)),
        outputs=groups * data.draw(st.integers(8, 80)),
        image=tuple(least + data.draw(st.integers(0, 9)) for least in image),
        kernel=kernel,
        padding=padding,
        groups=groups,
        activation=data.draw(st.sampled_from([None, "relu"])),
        seed=data.draw(st.integers(0, 99)),
        dtype=data.draw(st.sampled_from([torch.float32, torch.float64])),
    )
    check(layer, "native")


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_frames(data: st.DataObject) -> None:
    """Longer windows with many channels and enough images to lift the weights for."""
    groups, sides = data.draw(st.integers(1, 2)), st.integers(4, 8)
    kernel = data.draw(st.tuples(sides, sides))
    padding = tuple(data.draw(st.integers(0, k)) for k in kernel)
    image = tuple(max(1, k - 2 * p) for k, p in zip(kernel, padding, strict=True))
    layer = Layer(
        clients=data.draw(st.integers(1, 2)),
        batch=data.draw(st.integers(8, 17)),
        channels=groups * data.draw(st.integers(24, 40)),
        outputs=groups * data.draw(st.integers(24, 50)),
        image=tuple(least + data.draw(st.integers(4, 22)) for least in image),
        kernel=kernel,
        padding=padding,
        groups=groups,
        activation=data.draw(st.sampled_from([None, "relu"])),
        seed=data.draw(st.integers(0, 99)),
    )
    check(layer, "native")


@pytest.mark.parametrize("batch", (3, 16), ids=("squares", "frames"))
@pytest.mark.parametrize("image", ((14, 14), (30, 18)))
def test_windows_of_zeros_give_zero(image: tuple[int, int], batch: int) -> None:
    """Exactly: black margins under a zero bias must not pass a ReLU, whatever else is there."""
    layer = Layer(2, batch, 32, 48, image, (5, 5), padding=(2, 2), bias=False)
    x, weight, _ = layer.tensors()
    seen = torch.zeros_like(x)
    for b in range(batch):  # a block of pixels in some of the channels, another in each image
        seen[:, b, b % 3 :: 5, b % image[0] :, : 1 + b * 7 % image[1]] = 1
    out = poison(2, batch, 48, *image, dtype=torch.float32)
    conv(x * seen, weight, out=out, padding=2)
    ones = torch.ones(1, 32, 5, 5)
    windows = torch.stack([F.conv2d(s, ones, padding=2) for s in seen]).expand_as(out)
    assert torch.equal(out != 0, windows > 0)
    assert 0 < float((windows > 0).float().mean()) < 1

    dout = draw(generator(1), *out.shape) * F.interpolate(seen[0, :, :1], out.shape[3:])
    dx = poison(*x.shape, dtype=torch.float32)
    conv_backward(x, weight, out, dout, padding=2, dx=dx)
    some = (dout != 0).any(2, keepdim=True).float()
    reached = torch.stack([F.conv2d(s, torch.ones(1, 1, 5, 5), padding=2) for s in some])
    assert torch.equal(dx != 0, reached.expand_as(dx) > 0)


def test_weights_that_are_no_numbers_stay_so() -> None:
    """Where windows see zeros too: 0 * NaN is NaN, and a client that diverged is found."""
    layer = Layer(1, 16, 32, 48, (14, 14), (5, 5), padding=(2, 2), bias=False)
    x, weight, _ = layer.tensors()
    weight = weight.clone()
    weight[:, 3, 5, 2, 2] = float("nan")
    for images in (torch.zeros_like(x), x * (torch.arange(14) > 8)):
        out = conv(images, weight, padding=2)
        assert out[:, :, 3].isnan().all()
        assert not out[:, :, torch.arange(48) != 3].isnan().any()
        dout = torch.zeros_like(out)
        dx = poison(*x.shape, dtype=torch.float32)
        conv_backward(images, weight, out, dout, padding=2, dx=dx)
        assert dx[:, :, 5].isnan().all()
        assert torch.equal(dx[:, :, :5], torch.zeros_like(dx[:, :, :5]))


FRAMES = [name for name in SHAPES if name.startswith("frames")]


@pytest.mark.parametrize("name", FRAMES)
def test_company_and_threads_change_no_bit(name: str) -> None:
    layer = replace(SHAPES[name], clients=3, seed=4)
    with threads(1):
        together = run(layer, "native")
    for number, which in product((1, 2, 5), (slice(None), slice(2, 3))):
        with threads(number):
            found = run(layer, "native", which)
        for key, value in found.items():
            same(value, together[key][which])


FOLDED = {
    "float64": Layer(clients=3, activation="relu", dtype=torch.float64, padding=(1, 1)),
    "frames": replace(SHAPES["frames"], clients=3, activation="relu", padding=(1, 1)),
}


@every_backend
@pytest.mark.parametrize("layer", FOLDED.values(), ids=FOLDED.keys())
def test_a_folded_step_is_sgd(layer: Layer, backend: str) -> None:
    """dweight is the weight itself; dx still sees the old one."""
    plain = run(layer, backend)
    x, weight, bias = (in_rows(t) for t in layer.tensors())
    out = conv(x, weight, bias, padding=1, activation="relu", backend=backend)
    eta, decay = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64), 0.01
    expected_w = weight - eta.view(3, 1, 1, 1, 1) * (plain["dweight"] + decay * weight)
    expected_b = bias - eta.view(3, 1) * (plain["dbias"] + decay * bias)
    dx = poison(*x.shape, dtype=layer.dtype)
    sinks: dict[str, Any] = dict(dx=dx, dweight=weight, dbias=bias, base_weight=weight)
    fold: dict[str, Any] = dict(alpha=-eta, beta=1 - decay * eta, base_bias=bias)
    shape: dict[str, Any] = dict(padding=1, activation="relu", backend=backend)
    conv_backward(x, weight, out, plain["given"].clone(), **sinks, **fold, **shape)
    close(weight, expected_w)
    close(bias, expected_b)
    same(dx, plain["dx"])


@every_backend
def test_a_shared_base_and_no_dx(backend: str) -> None:
    """The first local step reads the global row and writes each client's own."""
    layer = Layer(shared=True, bias=False, dtype=torch.float64)
    plain = run(layer, backend)
    x, weight, _ = layer.tensors()
    dweight = poison(*weight.shape, dtype=torch.float64)
    out = conv(x, weight, backend=backend)
    fold: dict[str, Any] = dict(alpha=-0.5, beta=0.75, base_weight=weight[0])
    conv_backward(x, weight, out, plain["given"], dweight=dweight, backend=backend, **fold)
    close(dweight, 0.75 * weight - 0.5 * plain["dweight"])


@every_backend
def test_without_a_base_gradients_add_up(backend: str) -> None:
    layer = Layer(dtype=torch.float64)
    once = run(layer, backend)
    x, weight, bias = layer.tensors()
    dweight, dbias = torch.ones_like(weight), torch.ones_like(bias)
    out = conv(x, weight, bias, backend=backend)
    sinks: dict[str, Any] = dict(dweight=dweight, dbias=dbias, beta=1.0)
    conv_backward(x, weight, out, once["given"], backend=backend, **sinks)
    close(dweight, 1 + once["dweight"])
    close(dbias, 1 + once["dbias"])


def wrong(**changes: Any) -> dict[str, Any]:
    x, weight, bias = Layer().tensors()
    return dict(x=x, weight=weight, bias=bias) | changes


ERRORS = {
    "x: expected shape": lambda: wrong(x=torch.ones(3, 4, 9, 8)),
    "x: expected a tensor": lambda: wrong(x=None),
    "x: expected a floating dtype": lambda: wrong(x=torch.ones(2, 3, 4, 9, 8, dtype=torch.int32)),
    "x: expected each client's part": lambda: wrong(x=torch.ones(2, 3, 4, 8, 9).mT),
    "weight: expected shape": lambda: wrong(weight=torch.ones(2, 6, 5, 3, 3)),
    "weight: expected dtype": lambda: wrong(weight=torch.ones(2, 6, 4, 3, 3).double()),
    "weight: expected a window that fits": lambda: wrong(weight=torch.ones(2, 6, 4, 10, 3)),
    "bias: expected shape": lambda: wrong(bias=torch.ones(2, 7)),
    "out: expected shape": lambda: wrong(out=torch.ones(2, 3, 6, 7, 7)),
    "out: expected memory": lambda: wrong(out=torch.ones(3, 6, 7, 6).expand(2, 3, 6, 7, 6)),
    "stride: expected": lambda: wrong(stride=0),
    "padding: expected": lambda: wrong(padding=(1, 2, 3)),
    "groups: expected a divisor": lambda: wrong(groups=3),
    "groups: expected an int": lambda: wrong(groups=0),
    "activation: expected": lambda: wrong(activation="gelu"),
    "precision: expected one of fp32": lambda: wrong(precision="fp16"),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_the_argument(message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        conv(**ERRORS[message]())
