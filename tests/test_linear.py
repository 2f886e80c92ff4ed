"""`linear` and `linear_backward` against float64 autograd, and what they promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedfast.kernels import linear, linear_backward
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import DTYPES, ISAS, TOLERANCE, block, close, isa, poison, same
from torch import Tensor

ACTIVATIONS = {None: lambda z: z, "relu": torch.relu, "tanh": torch.tanh}
KINDS = st.sampled_from(["bank", "strided", "shared"])
Shape = tuple[int, int, int, int]

# [K, B, I, O]: one tile and many, several pieces of I and B, edges everywhere.
SHAPES: list[Shape] = [(2, 10, 784, 200), (2, 1, 1, 1), (1, 64, 900, 33), (3, 130, 17, 150)]
SHAPES += [(1, 400, 40, 20), (2, 50, 33, 513)]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=("float32", "float64"))
every_backend = pytest.mark.parametrize("backend", ["reference", "native"])
all_three = pytest.mark.parametrize("backend", ["reference", "native", "triton"])


def forward(shape: Shape, dtype: torch.dtype, w: str = "bank", b: str | None = "bank") -> dict:
    """x, weight and bias, small enough for tanh not to lose its derivative in rounding."""
    k, batch, inputs, outputs = shape
    return dict(
        x=block(1, k, batch, inputs, dtype=dtype).mul_(0.3 * inputs**-0.5),
        weight=block(2, k, outputs, inputs, dtype=dtype, kind=w),
        bias=None if b is None else block(3, k, outputs, dtype=dtype, kind=b),
    )


def autograd(given: dict, dout: Tensor, activation: str | None) -> dict[str, Tensor]:
    """Output and gradients, by torch in float64."""
    leaves = {n: t.double().clone().requires_grad_() for n, t in given.items() if t is not None}
    z = leaves["x"] @ leaves["weight"].transpose(1, 2)
    out = ACTIVATIONS[activation](z + leaves["bias"][:, None] if "bias" in leaves else z)
    gradients = torch.autograd.grad(out, list(leaves.values()), dout.double())
    return {"out": out.detach(), **dict(zip(leaves, gradients, strict=True))}


def gradients(given: dict, dout: Tensor, backend: str, **options: Any) -> dict[str, Tensor]:
    """Output and gradients, by the operations."""
    x, weight, bias = given["x"], given["weight"], given["bias"]
    out = poison(*dout.shape, dtype=x.dtype)
    shared = {n: options[n] for n in ("activation", "precision") if n in options}
    linear(x, weight, bias, out=out, backend=backend, **shared)
    found = {"out": out, "x": poison(*x.shape, dtype=x.dtype)}
    found["weight"] = poison(*weight.shape, dtype=x.dtype)
    if bias is not None:
        found["bias"] = poison(*bias.shape, dtype=x.dtype)
    linear_backward(
        x,
        weight,
        out,
        dout.clone(),
        dx=found["x"],
        dweight=found["weight"],
        dbias=found.get("bias"),
        backend=backend,
        **options,
    )
    return found


def magnitudes(given: dict, dout: Tensor) -> dict[str, Tensor]:
    """The sums of absolute values: what rounding is relative to where a sum cancels."""
    return autograd({n: None if t is None else t.abs() for n, t in given.items()}, dout.abs(), None)


def check(given: dict, activation: str | None, backend: str) -> None:
    k, batch, _ = given["x"].shape
    dout = block(4, k, batch, given["weight"].shape[1], dtype=given["x"].dtype)
    found = gradients(given, dout, backend, activation=activation)
    expected = autograd(given, dout, activation)
    if activation == "relu":  # rounding may move an input across 0: ask relu what it passed on
        passed = autograd(given, dout * (found["out"] > 0), None)
        expected = passed | {"out": expected["out"]}
    assert found.keys() == expected.keys()
    sizes = magnitudes(given, dout)
    for name, value in expected.items():
        error = (found[name] - value).flatten(1).norm(dim=1)
        bound = TOLERANCE[dout.dtype] * value.flatten(1).norm(dim=1)
        cancelled = TOLERANCE[dout.dtype] / 10 * sizes[name].flatten(1).norm(dim=1)
        assert (error <= bound.maximum(cancelled)).all(), f"{name}: {error} above {bound}"


@every_backend
@every_dtype
@every_shape
@pytest.mark.parametrize("activation", [None, "tanh"])
def test_against_autograd(
    shape: Shape, dtype: torch.dtype, backend: str, activation: str | None
) -> None:
    check(forward(shape, dtype), activation, backend)


@settings(max_examples=80, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, n) for n in (4, 70, 90, 90)]),
    dtype=st.sampled_from(DTYPES),
    activation=st.sampled_from(list(ACTIVATIONS)),
    weight=KINDS,
    bias=st.none() | KINDS,
)
def test_any_shape(
    shape: Shape, dtype: torch.dtype, activation: str | None, weight: str, bias: str | None
) -> None:
    check(forward(shape, dtype, weight, bias), activation, "native")


@pytest.mark.parametrize("name", ISAS)
@every_dtype
def test_every_instruction_set(name: str, dtype: torch.dtype) -> None:
    with isa(name):
        for shape in SHAPES:
            check(forward(shape, dtype), None, "native")


@all_three
def test_beta_zero_does_not_read_the_base(backend: str) -> None:
    given = forward((2, 10, 50, 40), torch.float32)
    dout, nan = block(4, 2, 10, 40), poison(2, 40, 50)
    found = gradients(given, dout, backend, base_weight=nan, base_bias=nan[:, :, 0].contiguous())
    for name, value in gradients(given, dout, backend).items():
        same(found[name], value)


@all_three
def test_alpha_and_beta_per_client(backend: str) -> None:
    given = forward((2, 10, 50, 40), torch.float32)
    dout, base = block(4, 2, 10, 40), block(5, 2, 40, 50, kind="shared")
    alpha, beta = torch.tensor([2.0, -0.5]), torch.tensor([0.0, 0.75])
    plain = gradients(given, dout, backend)
    found = gradients(
        given, dout, backend, alpha=alpha, beta=beta, base_weight=base, base_bias=given["bias"]
    )
    expected = alpha[:, None, None] * plain["weight"] + beta[:, None, None] * base
    close(found["weight"], expected.double(), 1e-6)
    close(found["bias"], (alpha[:, None] * plain["bias"] + beta[:, None] * given["bias"]).double())


@all_three
@pytest.mark.parametrize("in_place", [True, False])
def test_folded_sgd_is_gradient_then_step(backend: str, in_place: bool) -> None:
    eta, decay = 0.1, 0.01
    shape = (3, 50, 130, 70) if backend != "triton" else (2, 18, 40, 20)
    given = forward(shape, torch.float32, "strided", "strided")
    clients, batch, _, outputs = shape
    weight, bias, dout = given["weight"], given["bias"], block(4, clients, batch, outputs)
    plain = gradients(given, dout, backend, activation="relu")
    stepped = [w - eta * (plain[n] + decay * w) for n, w in (("weight", weight), ("bias", bias))]
    out = linear(given["x"], weight, bias, activation="relu", backend=backend)
    to = (weight, bias) if in_place else (poison(*weight.shape), poison(*bias.shape))
    base = {} if in_place else {"base_weight": weight, "base_bias": bias}
    dx = poison(*given["x"].shape)
    linear_backward(
        given["x"],
        weight,
        out,
        dout,
        activation="relu",
        dx=dx,
        dweight=to[0],
        dbias=to[1],
        alpha=-eta,
        beta=1 - eta * decay,
        backend=backend,
        **base,
    )
    same(dx, plain["x"])
    for found, expected in zip(to, stepped, strict=True):
        close(found, expected.double(), 1e-6)


@all_three
def test_rows_without_gradient_add_nothing(backend: str) -> None:
    given = forward((2, 20, 50, 40), torch.float64)
    dout = block(4, 2, 20, 40, dtype=torch.float64)
    dout[:, 12:] = 0
    found = gradients(given, dout, backend)
    short = {n: v[:, :12].contiguous() if n == "x" else v for n, v in given.items()}
    expected = gradients(short, dout[:, :12].contiguous(), backend)
    close(found["weight"], expected["weight"], 1e-15)
    assert (found["x"][:, 12:] == 0).all()


@all_three
def test_what_nobody_needs_may_be_left_out(backend: str) -> None:
    given = forward((2, 10, 50, 40), torch.float32)
    out, dout = linear(**given, backend=backend), block(4, 2, 10, 40)
    dweight = poison(2, 40, 50)
    linear_backward(
        given["x"], given["weight"], out, dout.clone(), dweight=dweight, backend=backend
    )
    same(dweight, gradients(given, dout, backend)["weight"])


def test_the_native_backend_ignores_the_permission_to_round() -> None:
    given = forward((2, 10, 50, 40), torch.float32)
    dout = block(4, 2, 10, 40)
    coarse = gradients(given, dout, "native", precision="tf32")
    for name, value in gradients(given, dout, "native").items():
        same(coarse[name], value)


def test_one_weight_without_a_client_dimension() -> None:
    given = forward((3, 10, 50, 40), torch.float32, "shared", "shared")
    found = linear(given["x"], given["weight"][0], given["bias"][0])
    same(found, linear(**given))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": torch.zeros(3, 4)}, ValueError, r"x: expected shape \[K, B, I\]"),
        ({"x": torch.zeros(2, 3, 4).long()}, TypeError, "x: expected a floating dtype"),
        ({"x": [1.0]}, TypeError, "x: expected a tensor; got list"),
        ({"x": torch.zeros(2, 4, 3).transpose(1, 2)}, ValueError, "x: expected each client's"),
        ({"weight": torch.zeros(2, 5, 3)}, ValueError, r"weight: expected shape \[2, 5, 4\]"),
        ({"weight": torch.zeros(2, 5, 4).double()}, TypeError, "weight: expected dtype"),
        ({"bias": torch.zeros(2, 4)}, ValueError, r"bias: expected shape \[2, 5\]"),
        ({"activation": "gelu"}, ValueError, "activation: expected None, 'relu' or 'tanh'"),
        ({"precision": "fp16"}, ValueError, "precision: expected one of fp32, tf32x3, tf32, bf16"),
        ({"out": torch.zeros(1, 3, 5).expand(2, 3, 5)}, ValueError, "out: expected memory"),
        ({"backend": "cuda"}, ValueError, "backend: expected one of auto, native, triton"),
    ],
)
def test_errors_name_the_argument(change: dict, error: Any, message: str) -> None:
    given = dict(x=torch.zeros(2, 3, 4), weight=torch.zeros(2, 5, 4), bias=torch.zeros(2, 5))
    with pytest.raises(error, match=message):
        linear(**(given | change))
