"""`activation` and `activation_backward` against torch in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from fedfast.kernels import activation, activation_backward
from layer_cases import DTYPES, block, close, poison, same
from torch import Tensor

TORCH = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "silu": F.silu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "sigmoid": torch.sigmoid,
    "relu6": F.relu6,
}
every_kind = pytest.mark.parametrize("kind", TORCH)
every_voice = pytest.mark.parametrize("voice", ["reference", "native", "triton"])
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=("float32", "float64"))


def both(x: Tensor, dout: Tensor, kind: str, voice: str) -> tuple[Tensor, Tensor]:
    out, dx = poison(*x.shape, dtype=x.dtype), poison(*x.shape, dtype=x.dtype)
    activation(x, kind, slope=0.2, out=out, backend=voice)
    activation_backward(x, out, dout, kind, slope=0.2, dx=dx, backend=voice)
    return out, dx


@every_voice
@every_dtype
@every_kind
def test_against_torch(kind: str, dtype: torch.dtype, voice: str) -> None:
    more = [(1,), (2, 5, 33), (40, 129)] if voice != "triton" else []
    for inner in ((3, 31), (1023,), *more):
        for stretch in (0.1, 1.0, 10.0):
            x, dout = block(1, 3, *inner, dtype=dtype) * stretch, block(2, 3, *inner, dtype=dtype)
            leaf = x.double().requires_grad_()
            expected = TORCH[kind](leaf)
            (dx,) = torch.autograd.grad(expected, leaf, dout.double())
            found = both(x, dout, kind, voice)
            close(found[0], expected.detach())
            error = (found[1] - dx).abs().max() / dout.abs().max()
            assert error <= (1e-6 if dtype == torch.float32 else 1e-14)


@pytest.mark.parametrize("voice", ["native", "triton"])
@pytest.mark.parametrize("kind", ["tanh", "sigmoid", "silu"])
def test_every_float_is_close(kind: str, voice: str) -> None:
    x = torch.linspace(-100, 100, 400_001 if voice == "native" else 10_001).view(1, -1)
    x = torch.cat([x, x.sign() * (x.abs() / 100 * 40).neg().exp()], 1)
    expected = TORCH[kind](x.double())
    small = expected.abs() < 1e-35  # denormal exponentials may be 0
    error = (activation(x, kind, backend=voice) - expected).abs() / expected.abs()
    assert error[~small & (expected != 0)].max() < 4e-7


@every_voice
@every_kind
def test_nan_and_infinity(kind: str, voice: str) -> None:
    x = torch.tensor([[torch.nan, 0.0, torch.inf, -torch.inf]])
    if kind == "gelu":  # at infinity torch's own kernels differ among themselves
        x = x[:, :2]
    same(activation(x, kind, slope=0.2, backend=voice), TORCH[kind](x))


@pytest.mark.parametrize("dtype", DTYPES, ids=("float32", "float64"))
def test_tanh_keeps_its_digits_near_0(dtype: torch.dtype) -> None:
    x = torch.logspace(-12, 0, 200, dtype=dtype).view(2, 100)
    error = activation(x, "tanh", backend="triton").double() / torch.tanh(x.double()) - 1
    assert error.abs().max() < 4 * torch.finfo(dtype).eps


def test_errors_name_the_argument() -> None:
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="kind: expected one of relu"):
        activation(x, "elu")
    with pytest.raises(ValueError, match=r"dout: expected shape \[2, 3\]; got \[2, 4\]"):
        activation_backward(x, x, torch.zeros(2, 4), "relu")
    with pytest.raises(TypeError, match="x: expected a floating dtype"):
        activation(x.long(), "relu")
