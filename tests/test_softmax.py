"""`log_softmax` and its backward against autograd in float64."""

from __future__ import annotations

import pytest
import torch
from fedfast.kernels import cross_entropy, log_softmax, log_softmax_backward
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import DTYPES, block, close, poison, same

VOICES = ["reference", "native", "triton"]
every_voice = pytest.mark.parametrize("voice", VOICES)


def both(x, dout, voice):
    out, dx = poison(*x.shape, dtype=x.dtype), poison(*x.shape, dtype=x.dtype)
    log_softmax(x, out=out, backend=voice)
    log_softmax_backward(out, dout, dx=dx, backend=voice)
    return out, dx


@settings(max_examples=60, deadline=None)
@given(
    voice=st.sampled_from(VOICES),
    dtype=st.sampled_from(DTYPES),
    clients=st.integers(1, 4),
    batch=st.integers(1, 9),
    classes=st.sampled_from([1, 2, 10, 33, 257, 600]),
    stretch=st.sampled_from([1.0, 30.0]),
)
def test_against_autograd(voice, dtype, clients, batch, classes, stretch) -> None:
    x = block(1, clients, batch, classes, dtype=dtype, kind="strided") * stretch
    dout = block(2, clients, batch, classes, dtype=dtype)
    leaf = x.double().requires_grad_()
    expected = torch.log_softmax(leaf, -1)
    (dx,) = torch.autograd.grad(expected, leaf, dout.double())
    found = both(x, dout, voice)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    assert ((found[0] - expected).norm() <= tolerance * (1e-3 + expected.norm())).all()
    assert ((found[1] - dx).norm() <= tolerance * dout.norm()).all()


@every_voice
def test_the_loss_of_log_probabilities_is_that_of_logits(voice: str) -> None:
    z, y = block(1, 2, 5, 7, dtype=torch.float64), torch.randint(7, (2, 5))
    count = torch.tensor([5, 3], dtype=torch.int32)
    losses, dz = cross_entropy(z, y, count, backend=voice)
    out = log_softmax(z, backend=voice)
    again, dout = cross_entropy(out, y, count, backend=voice)
    close(again[:, None], losses[:, None])
    close(log_softmax_backward(out, dout, backend=voice), dz)


@every_voice
def test_extremes(voice: str) -> None:
    x = torch.tensor([[[1e30, 0.0, -1e30], [torch.nan, 0.0, 1.0], [0.0, -torch.inf, 0.0]]])
    same(log_softmax(x, backend=voice), torch.log_softmax(x, -1))


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match=r"x: expected shape \[K, ..., C\]"):
        log_softmax(torch.zeros(3))
    with pytest.raises(ValueError, match=r"dout: expected shape \[2, 3\]"):
        log_softmax_backward(torch.zeros(2, 3), torch.zeros(2, 4))
