"""`kl_gradient` against autograd in float64, over ragged batches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from fedfast.kernels import kl_gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import TOLERANCE, block, poison, same
from logit_cases import LOGITS, counts, every_backend, every_dtype, tiles
from torch import Tensor


def expected(logits: Tensor, before: Tensor, temperature: float) -> Tensor:
    """That of torch's own divergence. [n, C] float64"""
    leaf = logits.double().requires_grad_()
    target = (before.double() / temperature).softmax(1)
    value = F.kl_div((leaf / temperature).log_softmax(1), target, reduction="batchmean")
    return torch.autograd.grad(value, leaf)[0]


def check(logits: Tensor, before: Tensor, count: Tensor, temperature: float, backend: str) -> None:
    out = poison(*logits.shape).to(logits)
    kl_gradient(logits, before, count, temperature, out=out, backend=backend)
    for k, n in enumerate(count.tolist()):
        wanted = expected(logits[k, :n], before[k, :n], temperature)
        # Probabilities of up to 1 are subtracted: that is where digits are lost.
        assert (out[k, :n] - wanted).abs().max() <= TOLERANCE[logits.dtype] / (temperature * n)
        assert (out[k, n:] == 0).all()


@settings(max_examples=60, deadline=None)
@given(**LOGITS, classes=st.integers(2, 600), temperature=st.sampled_from([0.5, 1.0, 3.0]))
def test_against_autograd(backend, dtype, batch, classes, stretch, temperature, kind, data) -> None:
    logits = block(1, 3, batch, classes, dtype=dtype, kind=kind).mul_(stretch)
    before = block(2, 3, batch, classes, dtype=dtype, kind=kind).mul_(stretch)
    count = counts(data, batch)
    check(logits, before, count, temperature, backend)


@every_dtype
@tiles
def test_triton_against_autograd(
    batch: int, classes: int, stretch: float, dtype: torch.dtype
) -> None:
    logits = block(1, 2, batch, classes, dtype=dtype, kind="strided").mul_(stretch)
    before = block(2, 2, batch, classes, dtype=dtype, kind="strided").mul_(stretch)
    count = torch.tensor([batch, (batch + 1) // 2], dtype=torch.int32)
    check(logits, before, count, 3.0, "triton")


@every_backend
@pytest.mark.parametrize("classes", [10, 700])
def test_logits_that_are_those_before_give_exactly_0(backend: str, classes: int) -> None:
    logits = block(1, 3, 6, classes).mul_(30)
    count = torch.tensor([6, 3, 0], dtype=torch.int32)
    found = kl_gradient(logits, logits.clone(), count, 3.0, backend=backend)
    same(found, torch.zeros_like(logits))


@every_backend
def test_in_place_and_from_one_row_for_all(backend: str) -> None:
    logits, before = block(1, 3, 6, 10), block(2, 1, 6, 10).expand(3, 6, 10)
    count = torch.tensor([6, 3, 1], dtype=torch.int32)
    apart = kl_gradient(logits, before, count, 2.0, backend=backend)
    kl_gradient(logits, before, count, 2.0, out=logits, backend=backend)
    same(logits, apart)


def test_a_diverged_client_is_alone_with_it() -> None:
    logits, before = block(1, 3, 6, 10), block(2, 3, 6, 10)
    count = torch.tensor([6, 7, 2], dtype=torch.int32)
    logits[2, 0, 3] = float("nan")
    found = kl_gradient(logits, before, count, backend="triton")
    assert found[1].isnan().all() and found[2, 0].isnan().all()
    assert found[0].isfinite().all() and found[2, 1:].isfinite().all()
    for backend in ("native", "reference"):
        with pytest.raises(IndexError, match=r"^count: expected counts in \[0, B\]"):
            kl_gradient(logits, before, count, backend=backend)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0.0, ValueError, "temperature: expected a number > 0; got 0.0"),
        (-1, ValueError, "temperature: expected a number > 0; got -1.0"),
        ("3", TypeError, "temperature: expected a number; got str"),
        (float("nan"), ValueError, "temperature: expected a number > 0; got nan"),
    ],
)
def test_temperatures_that_are_none(value: object, error: type[Exception], message: str) -> None:
    logits, count = block(1, 2, 3, 4), torch.tensor([3, 3], dtype=torch.int32)
    with pytest.raises(error, match=f"^{message}"):
        kl_gradient(logits, logits, count, value)  # type: ignore[arg-type]
