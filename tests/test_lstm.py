"""`lstm` and `lstm_backward` against torch's LSTM under autograd in float64."""

from __future__ import annotations

import pytest
import torch
from fedfast.kernels import lstm, lstm_backward
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import DTYPES, ISAS, block, close, isa, poison, same
from torch import Tensor, nn

every_backend = pytest.mark.parametrize("backend", ["reference", "native", "triton"])
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def problem(clients, batch, steps, inputs, hidden, bias=True, dtype=torch.float32, kind="bank"):
    """(x, parameters by name, dout)."""
    wide = 4 * hidden
    shapes = [(wide, inputs), (wide, hidden), (wide,), (wide,)][: 4 if bias else 2]
    parameters = {
        name: block(10 + i, clients, *shape, dtype=dtype, kind=kind) / hidden**0.5
        for i, (name, shape) in enumerate(zip(NAMES, shapes, strict=False))
    }
    x = block(1, clients, batch, steps, inputs, dtype=dtype)
    return x, parameters, block(2, clients, batch, steps, hidden, dtype=dtype)


def autograd(x: Tensor, parameters: dict[str, Tensor], dout: Tensor) -> dict[str, Tensor]:
    """out, dx and the parameters' gradients, client by client."""
    found: dict[str, list[Tensor]] = {}
    for k in range(len(x)):
        wide, inputs = parameters["weight_ih"].shape[1:]
        cell = nn.LSTM(inputs, wide // 4, batch_first=True, bias="bias_ih" in parameters).double()
        for name, value in parameters.items():
            getattr(cell, f"{name}_l0").data.copy_(value[k])
        leaf = x[k].double().requires_grad_()
        out, _ = cell(leaf)
        grads = torch.autograd.grad(out, [leaf, *cell.parameters()], dout[k].double())
        for name, value in zip(["out", "dx", *parameters], [out.detach(), *grads], strict=True):
            found.setdefault(name, []).append(value)
    return {name: torch.stack(values) for name, values in found.items()}


def both(x, parameters, dout, backend="native", sinks=None, **scales) -> dict[str, Tensor]:
    """The same by the operation; everything it writes is poisoned before."""
    gates = poison(*dout.shape[:3], 4 * dout.shape[3], dtype=x.dtype)
    cells, out, dx = (poison(*like.shape, dtype=x.dtype) for like in (dout, dout, x))
    lstm(x, **parameters, gates=gates, cells=cells, out=out, backend=backend)
    sinks = sinks or {name: poison(*t.shape, dtype=x.dtype) for name, t in parameters.items()}
    weights = parameters["weight_ih"], parameters["weight_hh"]
    named = {f"d{name}": t for name, t in sinks.items()}
    given = dict(dx=dx, backend=backend, **named, **scales)
    lstm_backward(x, *weights, gates, cells, out, dout, **given)
    return {"out": out, "dx": dx, **sinks}


def check(case, backend: str) -> None:
    """Every result against autograd, in float64."""
    expected = autograd(*case)
    for name, found in both(*case, backend).items():
        tolerance = 2e-5 if found.dtype == torch.float32 else 1e-12
        error = (found - expected[name]).flatten(1).norm(dim=1)
        scale = expected[name].flatten(1).norm(dim=1) + 0.1
        assert (error <= tolerance * scale).all(), f"{name}: {error / scale}"


@settings(max_examples=40, deadline=None)
@given(
    backend=st.sampled_from(["reference", "native"]),
    dtype=st.sampled_from(DTYPES),
    clients=st.integers(1, 3),
    batch=st.integers(1, 6),
    steps=st.integers(1, 6),
    inputs=st.sampled_from([1, 5, 8]),
    hidden=st.sampled_from([1, 3, 16, 33]),
    bias=st.booleans(),
    kind=st.sampled_from(["bank", "strided", "shared"]),
)
def test_against_autograd(
    backend, dtype, clients, batch, steps, inputs, hidden, bias, kind
) -> None:
    check(problem(clients, batch, steps, inputs, hidden, bias, dtype, kind), backend)


def test_triton_tile_by_tile() -> None:
    """Three tiles of samples or units, and two pieces of the products between steps."""
    for batch, hidden in (70, 2), (2, 66):
        check(problem(1, batch, 2, 3, hidden), "triton")


@pytest.mark.parametrize("batch", [20, 70])  # weights used where they lie, and packed
@pytest.mark.parametrize("name", ISAS)
def test_sizes_of_the_papers_and_every_instruction_set(name: str, batch: int) -> None:
    case = problem(1, batch, 4, 64, 64, dtype=torch.float64)
    expected = autograd(*case)
    with isa(name):
        found = both(*case)
    for key, value in found.items():
        close(value, expected[key])


@every_backend
def test_a_folded_step_in_place(backend: str) -> None:
    x, parameters, dout = problem(2, 3, 4, 5, 6, dtype=torch.float64)
    expected = autograd(x, parameters, dout)
    alpha, beta = torch.tensor([-0.1, 0.5]).double(), torch.tensor([0.9, 0.0]).double()
    bases = {f"base_{name}": t for name, t in parameters.items()}
    apart = both(x, parameters, dout, backend, alpha=alpha, beta=beta, **bases)
    own = {name: t.clone() for name, t in parameters.items()}
    inside = both(x, own, dout, backend, sinks=own, alpha=alpha, beta=beta)
    for name, w in parameters.items():
        a, b = (c.view(-1, *[1] * (w.ndim - 1)) for c in (alpha, beta))
        close(apart[name], b * w + a * expected[name])
        close(inside[name], apart[name])
    close(inside["dx"], expected["dx"])


def test_what_nobody_needs_is_not_computed() -> None:
    x, parameters, dout = problem(2, 3, 4, 5, 6)
    full = both(x, parameters, dout)
    gates, cells, out = poison(2, 3, 4, 24), poison(2, 3, 4, 6), poison(2, 3, 4, 6)
    lstm(x, **parameters, gates=gates, cells=cells, out=out)
    sinks = {f"d{name}": poison(*t.shape) for name, t in parameters.items()}
    weights = parameters["weight_ih"], parameters["weight_hh"]
    lstm_backward(x, *weights, gates, cells, out, dout, **sinks)
    for name in parameters:
        same(sinks[f"d{name}"], full[name])


def test_errors_name_the_argument() -> None:
    x, parameters, dout = problem(2, 3, 4, 5, 6)
    with pytest.raises(ValueError, match=r"weight_ih: expected shape \[2, 24, 5\]"):
        lstm(x, parameters["weight_ih"][:, :, :4].contiguous(), parameters["weight_hh"])
    with pytest.raises(ValueError, match="bias_ih, bias_hh: expected both or neither"):
        lstm(x, **{name: parameters[name] for name in NAMES[:3]})
    with pytest.raises(ValueError, match=r"x: expected shape \[K, B, T, I\]"):
        lstm(x[0], parameters["weight_ih"], parameters["weight_hh"])
    with pytest.raises(ValueError, match="precision: expected one of fp32, tf32x3, tf32, bf16"):
        lstm(x, parameters["weight_ih"], parameters["weight_hh"], precision="fp16")
    with pytest.raises(TypeError, match="bias_hh: expected dtype"):
        lstm(x, **(parameters | {"bias_hh": parameters["bias_hh"].double()}))
