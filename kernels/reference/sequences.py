"""The meaning of the operations of sequence models, in plain torch: tokens, LSTM, dropout.

No tricks: whole-tensor expressions, any floating dtype (float64 in tests), any device. Arguments
arrive normalised by the public function of the same name: `[K, ...]`, per-client scalars `[K]`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .layers import folded

WORD = 0xFFFFFFFF


def philox(counter: list[Tensor], key: list[Tensor]) -> list[Tensor]:
    """Philox4x32-10: four random words of four counter words under two key words, all int64.

    Products wrap around 2^64 as unsigned ones would; only their 32-bit halves are used.
    """
    c, k = counter, key
    for _ in range(10):
        p0, p1 = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(p1 >> 32 & WORD) ^ c[1] ^ k[0], p1 & WORD, (p0 >> 32 & WORD) ^ c[3] ^ k[1], p0 & WORD]
        k = [(k[0] + 0x9E3779B9) & WORD, (k[1] + 0xBB67AE85) & WORD]
    return c


def dropout(
    x: Tensor, seeds: Tensor, layer: int, threshold: int, scale: float, span: int, out: Tensor
) -> Tensor:
    """`out = scale x` where the element's random word is at least the threshold, else 0."""
    draws = x[0].numel() // span
    block = torch.arange((draws + 3) // 4, device=x.device).expand(len(x), -1)
    zero, key = torch.zeros_like(block), seeds[:, None]
    counter = [block & WORD, block >> 32, zero + layer, zero]
    words = torch.stack(philox(counter, [key & WORD, key >> 32 & WORD]), 2).flatten(1)[:, :draws]
    kept = (words >= threshold).repeat_interleave(span, 1).view(x.shape)
    return out.copy_(torch.where(kept, x * scale, 0.0))


def log_softmax(x: Tensor, out: Tensor) -> Tensor:
    """`out = x - log sum exp(x)` over the last dimension."""
    return out.copy_(torch.log_softmax(x, -1))


def log_softmax_backward(out: Tensor, dout: Tensor, dx: Tensor) -> Tensor:
    """`dx = dout - softmax * sum dout`."""
    return dx.copy_(dout - out.exp() * dout.sum(-1, keepdim=True))


def _check(token: Tensor, words: int) -> None:
    if token.numel() and bool(((token < 0) | (token >= words)).any()):
        raise IndexError(TOKEN_OUT_OF_RANGE.format(words))


TOKEN_OUT_OF_RANGE = "token: expected words in [0, {}); one is not"


def embedding(token: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    """`out[k, ...] = weight[k, token[k, ...]]`."""
    _check(token, weight.shape[1])
    rows = torch.arange(len(token), device=token.device).view(-1, *[1] * (token.ndim - 1))
    return out.copy_(weight[rows, token])


def embedding_backward(
    token: Tensor,
    dout: Tensor,
    padding: int,
    dweight: Tensor,
    alpha: Tensor,
    beta: Tensor,
    base: Tensor,
) -> None:
    """`dweight = beta base + alpha (sum of dout over each word's tokens)`."""
    _check(token, dweight.shape[1])
    onehot = torch.nn.functional.one_hot(token.flatten(1), dweight.shape[1]).to(dout.dtype)
    gradient = onehot.transpose(1, 2) @ dout.flatten(1, -2)
    if padding >= 0:
        gradient[:, padding] = 0
    folded(gradient, alpha, beta, base, dweight)


def lstm(
    x: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    gates: Tensor,
    cells: Tensor,
    out: Tensor,
    precision: str,
) -> Tensor:
    """`i, f, g, o = act(x W_ih^T + h W_hh^T + b)`, `c = f c + i g`, `h = o tanh(c)`."""
    bias = 0.0 if bias_ih is None or bias_hh is None else (bias_ih + bias_hh)[:, None]
    h = c = x.new_zeros(*x.shape[:2], weight_hh.shape[2])
    for t in range(x.shape[2]):
        z = x[:, :, t] @ weight_ih.transpose(1, 2) + h @ weight_hh.transpose(1, 2) + bias
        i, f, g, o = z.chunk(4, 2)
        i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
        c = f * c + i * g
        h = o * torch.tanh(c)
        gates[:, :, t] = torch.cat([i, f, g, o], 2)
        cells[:, :, t], out[:, :, t] = c, h
    return out


def lstm_backward(
    x: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    gates: Tensor,
    cells: Tensor,
    out: Tensor,
    dout: Tensor,
    dx: Tensor | None,
    sinks: list[Tensor | None],
    bases: list[Tensor | None],
    alpha: Tensor,
    beta: Tensor,
    precision: str,
) -> None:
    """Backpropagation through time; `gates` becomes the gradient before the activations."""
    _through_time(weight_hh, gates, cells, dout)
    if dx is not None:
        dx.copy_(gates @ weight_ih[:, None])
    before = torch.nn.functional.pad(out[:, :, :-1], (0, 0, 1, 0))
    dz, bias = gates.flatten(1, 2), gates.sum((1, 2))
    found = [dz.transpose(1, 2) @ source.flatten(1, 2) for source in (x, before)]
    for gradient, base, to in zip([*found, bias, bias], bases, sinks, strict=True):
        if to is not None:
            folded(gradient, alpha, beta, base, to)


def _through_time(weight_hh: Tensor, gates: Tensor, cells: Tensor, dout: Tensor) -> None:
    dh = dc = torch.zeros_like(dout[:, :, 0])
    for t in reversed(range(dout.shape[2])):
        i, f, g, o = gates[:, :, t].chunk(4, 2)
        bent = torch.tanh(cells[:, :, t])
        dh = dh + dout[:, :, t]
        dc = dc + dh * o * (1 - bent * bent)
        before = cells[:, :, t - 1] if t else torch.zeros_like(bent)
        di, df, dg, do = dc * g, dc * before, dc * i, dh * bent
        dc = dc * f
        parts = [di * i * (1 - i), df * f * (1 - f), dg * (1 - g * g), do * o * (1 - o)]
        dz = torch.cat(parts, 2)
        gates[:, :, t] = dz
        dh = dz @ weight_hh
