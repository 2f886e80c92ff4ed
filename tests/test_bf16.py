"""`precision="bf16"`: operands rounded to bfloat16, sums in float32, and only where permitted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fedfast.kernels import conv, conv_backward, ghost, joined, linear, linear_backward, lowrank
from layer_cases import block
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

K = 2


def rounded(t: Tensor) -> Tensor:
    """The nearest bfloat16, in float64."""
    return t.bfloat16().double()


def near(found: Tensor, expected: Tensor) -> None:
    """Up to the errors of float32 sums: far below a bfloat16's."""
    assert (found.double() - expected).norm() <= 3e-7 * expected.norm()


def test_a_dense_layer_multiplies_rounded_operands() -> None:
    pytest.importorskip("triton", reason="Triton is not installed on this platform")
    x, w, b, d = block(1, K, 5, 33), block(2, K, 20, 33), block(3, K, 20), block(4, K, 5, 20)
    options: dict[str, Any] = dict(precision="bf16", backend="triton")
    out, dx, dw, db = linear(x, w, b, **options), *(torch.empty_like(t) for t in (x, w, b))
    near(out, rounded(x) @ rounded(w).transpose(1, 2) + b.double()[:, None])
    linear_backward(x, w, out, d, dx=dx, dweight=dw, dbias=db, **options)
    near(dx, rounded(d) @ rounded(w))
    near(dw, rounded(d).transpose(1, 2) @ rounded(x))
    near(db, d.double().sum(1))  # no product: not rounded


def test_a_convolution_multiplies_rounded_operands() -> None:
    pytest.importorskip("triton", reason="Triton is not installed on this platform")
    x, w, d = block(1, K, 2, 6, 6, 5), block(2, K, 7, 6, 3, 3), block(4, K, 2, 7, 6, 5)
    options: dict[str, Any] = dict(padding=1, precision="bf16", backend="triton")
    out, dx, dw = conv(x, w, **options), torch.empty_like(x), torch.empty_like(w)
    conv_backward(x, w, out, d, dx=dx, dweight=dw, **options)
    for k in range(K):
        own = rounded(x[k]), rounded(w[k]), rounded(d[k])
        near(out[k], F.conv2d(own[0], own[1], padding=1))
        near(dx[k], conv2d_input(x[k].shape, own[1], own[2], padding=1))
        near(dw[k], conv2d_weight(own[0], w[k].shape, own[2], padding=1))


@pytest.mark.parametrize("batch", [5, 40])
def test_norms_are_those_of_the_gradient_of_rounded_factors(batch: int) -> None:
    """Whether from Gram matrices or, where half of the batch cancels the other, formed."""
    pytest.importorskip("triton", reason="Triton is not installed on this platform")
    x, d = block(1, K, batch, 150), block(2, K, batch, 20)
    options: dict[str, Any] = dict(precision="bf16", backend="triton")
    for own, pull in (x, d), (torch.cat([x, x], 1), torch.cat([d, 2.0**-9 * d - d], 1)):
        gram, squares = ghost(own, pull, **options)
        weight = rounded(pull).transpose(1, 2) @ rounded(own)
        near(gram, rounded(own) @ rounded(own).transpose(1, 2))
        torch.testing.assert_close(squares, weight.square().sum((1, 2)), rtol=1e-5, atol=0)
    w, b, far = block(3, K, 20, 150), block(4, K, 20), torch.full((K, 1), 9.0).double()
    known = dict(known=[far], added=[far], limit=1.0)
    found = joined(x, d, add_weight=w, add_bias=b, ones=1.0, **known, **options)
    weight = rounded(d).transpose(1, 2) @ rounded(x) + w
    near(found, weight.square().sum((1, 2)) + (d.double().sum(1) + b).square().sum(1))


def test_what_thin_factors_add_multiplies_rounded_operands() -> None:
    pytest.importorskip("triton", reason="Triton is not installed on this platform")
    x, u, v = (block(i, K, 5, n) for i, n in ((1, 150), (2, 150), (3, 20)))
    base = block(4, K, 5, 20)
    out = lowrank(x, u, v, 0.5, base=base, ones=1.0, precision="bf16", backend="triton")
    gram = rounded(x) @ rounded(u).transpose(1, 2) + 1.0
    near(out, base + 0.5 * rounded(gram) @ rounded(v))


def test_halfway_numbers_go_to_the_even_neighbour_and_nan_stays() -> None:
    pytest.importorskip("triton", reason="Triton is not installed on this platform")
    ulp = 2.0**-7
    x = torch.tensor(
        [1 + ulp / 2, 1 + 1.5 * ulp, -1 - ulp / 2, 1 + 0.51 * ulp, 2.0**100, torch.nan]
    )
    one = torch.ones(1, 16, 1)
    found = linear(x.view(1, 6, 1), one, precision="bf16", backend="triton")[0, :, 0]
    expected = torch.tensor([1.0, 1 + 2 * ulp, -1.0, 1 + ulp, 2.0**100, torch.nan])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0, equal_nan=True)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_the_cpu_never_rounds(backend: str) -> None:
    x, w = block(1, K, 5, 33), block(2, K, 20, 33)
    exact, permitted = (linear(x, w, precision=p, backend=backend) for p in ("fp32", "bf16"))
    assert torch.equal(exact, permitted)
    exact, permitted = (ghost(x, x, precision=p, backend=backend)[1] for p in ("fp32", "bf16"))
    assert torch.equal(exact, permitted)


def test_float64_never_rounds() -> None:
    pytest.importorskip("triton", reason="Triton is not installed on this platform")
    x, w = block(1, K, 5, 33).double(), block(2, K, 20, 33).double()
    exact, permitted = (linear(x, w, precision=p, backend="triton") for p in ("fp32", "bf16"))
    assert torch.equal(exact, permitted)
