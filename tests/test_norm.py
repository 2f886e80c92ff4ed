"""`batch_norm`, `group_norm`, `layer_norm` against torch's in float64, and what they promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedfast.kernels import (
    batch_norm,
    batch_norm_backward,
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm_backward,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from images import close, draw, every_dtype, every_voice, generator, in_rows, poison
from layer_cases import same
from torch import Tensor, nn
from torch.nn import functional as F

Case = dict[str, Any]
FOLDS = (dict(), dict(alpha=-0.5, beta=0.75))


def case(clients: int, shape: tuple[int, ...], affine: tuple[int, ...], dtype: torch.dtype) -> Case:
    random = generator(3)
    x = in_rows(2 + 3 * draw(random, clients, *shape, dtype=dtype))
    dout = in_rows(draw(random, clients, *shape, dtype=dtype))
    weight, bias = (in_rows(draw(random, clients, *affine, dtype=dtype), 3) for _ in range(2))
    return dict(x=x, dout=dout, weight=weight, bias=bias)


def gradients_like(given: Case) -> dict[str, Tensor]:
    names = {"dx": "x", "dweight": "weight", "dbias": "bias"}
    return {
        d: poison(*given[name].shape, dtype=given["x"].dtype)
        for d, name in names.items()
        if given[name] is not None
    }


def folds(given: Case, fold: Case) -> Case:
    """Bases beside alpha and beta."""
    return fold | (dict(base_weight=given["weight"], base_bias=given["bias"]) if fold else {})


def expect(given: Case, k: int, fold: Case, forward: Any, found: dict[str, Tensor]) -> Tensor:
    """Check client k's gradients against autograd in float64; return what forward gives."""
    leaves = {
        n: given[n][k].detach().double().requires_grad_()
        for n in ("x", "weight", "bias")
        if given[n] is not None
    }
    y = forward(**leaves)
    grads = torch.autograd.grad(y, list(leaves.values()), given["dout"][k][: len(y)].double())
    for name, grad in zip(leaves, grads, strict=True):
        if name != "x" and fold:
            grad = fold["beta"] * given[name][k].double() + fold["alpha"] * grad
        close(found[f"d{name}"][k][None], grad[None])
    return y.detach()


@every_voice
@every_dtype
@pytest.mark.parametrize("fold", FOLDS, ids=("plain", "folded"))
@pytest.mark.parametrize("size", [(), (5,), (4, 9), (16, 16)])
def test_batch_norm(size: tuple[int, ...], fold: Case, dtype: torch.dtype, voice: str) -> None:
    """Ragged batches; samples beyond count are poison that must not spread."""
    count = torch.tensor([12, 5, 9])
    given = case(3, (12, 7, *size), (7,), dtype)
    for k, n in enumerate(count.tolist()):
        given["x"][k, n:] = given["dout"][k, n:] = torch.nan
    weight, bias = given["weight"], given["bias"]
    running = [torch.zeros(3, 9, dtype=dtype)[:, :7], torch.ones(3, 9, dtype=dtype)[:, :7]]
    kept = dict(running_mean=running[0], running_var=running[1])
    given["out"] = poison(*given["x"].shape, dtype=dtype)
    options: Case = dict(count=count, backend=voice)
    out, mean, rstd = batch_norm(
        given["x"], weight, bias, out=given["out"], momentum=0.3, **kept, **options
    )
    found = gradients_like(given)
    args = (given["x"], weight, given["dout"], mean, rstd)
    batch_norm_backward(*args, **found, **options, **folds(given, fold))
    for k, n in enumerate(count.tolist()):
        module = nn.BatchNorm1d(7, momentum=0.3).double()
        own = given["x"][k, :n].double()
        module(own.flatten(2) if size else own)

        def forward(x: Tensor, weight: Tensor, bias: Tensor, n: int = n) -> Tensor:
            return F.batch_norm(x[:n], None, None, weight, bias, training=True)

        found["dx"][k, n:] += 0.0
        assert (found["dx"][k, n:] == 0).all()
        y = expect(given, k, fold, forward, found)
        close(out[k, :n], y)
        close(running[0][k][None], module.running_mean[None])
        close(running[1][k][None], module.running_var[None])


@every_voice
@every_dtype
def test_batch_norm_by_running_statistics(dtype: torch.dtype, voice: str) -> None:
    given = case(2, (5, 7, 3, 4), (7,), dtype)
    running_mean, running_var = given["bias"] * 0.5, given["weight"].square() + 0.1
    before = running_mean.clone(), running_var.clone()
    options: Case = dict(training=False, backend=voice)
    out, mean, rstd = batch_norm(
        given["x"],
        given["weight"],
        given["bias"],
        running_mean=running_mean,
        running_var=running_var,
        **options,
    )
    same(running_mean, before[0])
    same(running_var, before[1])
    found = gradients_like(given)
    args = (given["x"], given["weight"], given["dout"], mean, rstd)
    batch_norm_backward(*args, **found, **options)
    for k in range(2):

        def forward(x: Tensor, weight: Tensor, bias: Tensor, k: int = k) -> Tensor:
            m, v = running_mean[k].double(), running_var[k].double()
            return F.batch_norm(x, m, v, weight, bias, training=False)

        close(out[k], expect(given, k, {}, forward, found))


@every_voice
def test_batch_norm_without_weights_and_without_samples(voice: str) -> None:
    given = case(2, (4, 3, 5), (3,), torch.float64) | dict(weight=None, bias=None)
    running = dict(running_mean=torch.zeros(2, 3).double(), running_var=torch.ones(2, 3).double())
    options: Case = dict(count=torch.tensor([4, 0]), backend=voice)
    out, mean, rstd = batch_norm(given["x"], **running, **options)
    dx = poison(2, 4, 3, 5, dtype=torch.float64)
    batch_norm_backward(given["x"], None, given["dout"], mean, rstd, dx=dx, **options)
    y = expect(given, 0, {}, lambda x: F.batch_norm(x, None, None, training=True), {"dx": dx})
    close(out[0], y)
    assert (dx[1] == 0).all() and out[1].isfinite().all()
    assert (running["running_mean"][1] == 0).all() and (running["running_var"][1] == 1).all()


@every_voice
@every_dtype
@pytest.mark.parametrize("fold", FOLDS, ids=("plain", "folded"))
@pytest.mark.parametrize(("groups", "size"), [(1, (4, 5)), (4, (16,)), (12, (3, 3)), (3, ())])
def test_group_norm(
    groups: int, size: tuple[int, ...], fold: Case, dtype: torch.dtype, voice: str
) -> None:
    given = case(2, (3, 12, *size), (12,), dtype)
    args = (given["x"], groups, given["weight"])
    out = poison(*given["x"].shape, dtype=dtype)
    _, mean, rstd = group_norm(*args, given["bias"], out=out, backend=voice)
    found = gradients_like(given)
    scales = folds(given, fold)
    group_norm_backward(*args, given["dout"], mean, rstd, backend=voice, **found, **scales)
    for k in range(2):

        def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            return F.group_norm(x, groups, weight, bias)

        close(out[k], expect(given, k, fold, forward, found))


@pytest.mark.parametrize("voice", ("native", "reference", "triton"))
@every_dtype
@pytest.mark.parametrize("fold", FOLDS, ids=("plain", "folded"))
@pytest.mark.parametrize(("rows", "shape"), [((4,), (33,)), ((4, 3), (5, 7)), ((2, 1, 3), (6,))])
def test_layer_norm(
    rows: tuple[int, ...], shape: tuple[int, ...], fold: Case, dtype: torch.dtype, voice: str
) -> None:
    given = case(2, (*rows, *shape), shape, dtype)
    args = (given["x"], shape, given["weight"])
    out = poison(*given["x"].shape, dtype=dtype)
    _, mean, rstd = layer_norm(*args, given["bias"], out=out, backend=voice)
    found = gradients_like(given)
    scales = folds(given, fold)
    layer_norm_backward(*args, given["dout"], mean, rstd, backend=voice, **found, **scales)
    for k in range(2):

        def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            return F.layer_norm(x, shape, weight, bias)

        close(out[k], expect(given, k, fold, forward, found))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_shape(data: st.DataObject) -> None:
    """Native against reference, with shared weights and without."""
    clients, batch, groups = (data.draw(st.integers(1, 4)) for _ in range(3))
    channels = groups * data.draw(st.integers(1, 9))
    size = data.draw(st.sampled_from([(), (1,), (3, 5), (17,), (6, 8)]))
    given = case(clients, (batch, channels, *size), (channels,), torch.float64)
    weight = data.draw(st.sampled_from([None, given["weight"], given["weight"][0]]))
    count = torch.tensor([data.draw(st.integers(0, batch)) for _ in range(clients)])
    results = {}
    for voice in ("native", "reference"):
        batched = batch_norm(given["x"], weight, count=count, backend=voice)
        grouped = group_norm(given["x"], groups, weight, backend=voice)
        dx, dw = torch.empty_like(given["x"]), torch.empty(clients, channels, dtype=torch.float64)
        to: Case = dict(dx=dx, dweight=dw, backend=voice)
        group_norm_backward(given["x"], groups, weight, given["dout"], *grouped[1:], **to)
        dx2, dw2 = torch.empty_like(dx), torch.empty_like(dw)
        to = dict(dx=dx2, dweight=dw2, count=count, backend=voice)
        batch_norm_backward(given["x"], weight, given["dout"], *batched[1:], **to)
        results[voice] = [*batched, *grouped, dx, dw, dx2, dw2]
    for a, b in zip(*results.values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-7)


X = torch.ones(2, 3, 4, 5)
ERRORS = {
    "x: expected shape": lambda: batch_norm(X[0, 0]),
    "weight: expected shape": lambda: batch_norm(X, torch.ones(2, 5)),
    "count: expected shape": lambda: batch_norm(X, count=torch.tensor([1])),
    "count: expected 0 to 3": lambda: batch_norm(X, count=torch.tensor([1, 4])),
    "count: expected an integer": lambda: batch_norm(X, count=torch.ones(2)),
    "running_var: expected together": lambda: batch_norm(X, running_mean=torch.ones(2, 4)),
    "running_mean: expected running": lambda: batch_norm(X, training=False),
    "running_mean: expected memory": lambda: batch_norm(
        X, running_mean=torch.ones(4), running_var=torch.ones(4)
    ),
    "groups: expected a divisor": lambda: group_norm(X, 3),
    "shape: expected the last": lambda: layer_norm(X, (4,)),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_name_the_argument(message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        ERRORS[message]()
