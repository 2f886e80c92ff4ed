"""`embedding` and its backward against autograd in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from fedfast.kernels import embedding, embedding_backward
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_cases import DTYPES, block, close, poison, same
from torch import Tensor

VOICES = ["reference", "native", "triton"]
every_voice = pytest.mark.parametrize("voice", VOICES)


def tokens(words: int, *shape: int) -> Tensor:
    return torch.randint(words, shape, generator=torch.Generator().manual_seed(3))


def autograd(token, weight, dout, padding):
    """(out, gradient), client by client."""
    leaf = weight.double().clone().requires_grad_()
    out = torch.stack([F.embedding(t, w, padding) for t, w in zip(token, leaf, strict=True)])
    return out.detach(), torch.autograd.grad(out, leaf, dout.double())[0]


@settings(max_examples=60, deadline=None)
@given(
    voice=st.sampled_from(VOICES),
    dtype=st.sampled_from(DTYPES),
    clients=st.integers(1, 4),
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    words=st.integers(1, 7),
    size=st.sampled_from([1, 8, 33]),
    padding=st.sampled_from([None, 0]),
    kind=st.sampled_from(["bank", "strided", "shared"]),
)
def test_against_autograd(voice, dtype, clients, shape, words, size, padding, kind) -> None:
    weight = block(1, clients, words, size, dtype=dtype, kind=kind)
    token = tokens(words, clients, *shape)
    dout = block(2, clients, *shape, size, dtype=dtype)
    expected, gradient = autograd(token, weight, dout, padding)
    out, found = poison(*dout.shape, dtype=dtype), poison(clients, words, size, dtype=dtype)
    same(embedding(token, weight, out=out, backend=voice).double(), expected)
    embedding_backward(token, dout, dweight=found, padding=padding, backend=voice)
    close(found, gradient)


@every_voice
def test_a_folded_step(voice: str) -> None:
    base, token = block(1, 3, 5, 4, kind="shared"), tokens(5, 3, 7)
    dout = block(2, 3, 7, 4)
    gradient = autograd(token, base, dout, None)[1]
    alpha, beta = torch.tensor([-0.1, 0.5, -2.0]), torch.tensor([0.9, 0.0, 1.0])
    expected = beta.view(3, 1, 1) * base + alpha.view(3, 1, 1) * gradient
    scales = dict(alpha=alpha, beta=beta, backend=voice)
    out = poison(3, 5, 4)
    embedding_backward(token, dout, dweight=out, base_weight=base, **scales)
    close(out, expected)
    own = base.clone()
    embedding_backward(token, dout, dweight=own, **scales)
    same(own, out)


@pytest.mark.parametrize("voice", ["reference", "native"])
@pytest.mark.parametrize("bad", [-1, 5])
def test_tokens_out_of_range(bad: int, voice: str) -> None:
    token = torch.tensor([[0, 1], [bad, 2]])
    with pytest.raises(IndexError, match=r"token: expected words in \[0, 5\)"):
        embedding(token, torch.zeros(2, 5, 3), backend=voice)
    with pytest.raises(IndexError, match=r"token: expected words in \[0, 5\)"):
        weight = torch.zeros(2, 5, 3)
        embedding_backward(token, torch.zeros(2, 2, 3), dweight=weight, backend=voice)


@pytest.mark.parametrize("bad", [-1, 5, 2**32])
def test_triton_answers_tokens_out_of_range_with_nan(bad: int) -> None:
    """It cannot raise without waiting for the device; the other tokens are as without it."""
    weight, dout, token = block(1, 2, 5, 3), block(2, 2, 2, 3), torch.tensor([[0, 1], [bad, 2]])
    out = embedding(token, weight, backend="triton")
    assert out[1, 0].isnan().all()
    same(out[0], weight[0, :2])
    same(out[1, 1], weight[1, 2])
    expected, found = torch.zeros(2, 5, 3), poison(2, 5, 3)
    expected[0, :2], expected[1, 2] = dout[0], dout[1, 1]
    embedding_backward(token, dout, dweight=found, backend="triton")
    same(found, expected)


def test_errors_name_the_argument() -> None:
    weight = torch.zeros(2, 5, 3)
    with pytest.raises(TypeError, match="token: expected dtype torch.int64"):
        embedding(torch.zeros(2, 4), weight)
    with pytest.raises(ValueError, match=r"token: expected shape \[2, 4\]; got \[3, 4\]"):
        embedding(tokens(5, 3, 4), weight)
    with pytest.raises(ValueError, match=r"dout: expected shape \[2, 4, 3\]"):
        embedding_backward(tokens(5, 2, 4), torch.zeros(2, 4, 4), dweight=weight)
