"""`lstm` and its backward in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from .common import folded


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
    dweight_ih: Tensor | None,
    dweight_hh: Tensor | None,
    dbias_ih: Tensor | None,
    dbias_hh: Tensor | None,
    base_weight_ih: Tensor | None,
    base_weight_hh: Tensor | None,
    base_bias_ih: Tensor | None,
    base_bias_hh: Tensor | None,
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
    folded(dweight_ih, base_weight_ih, dz.transpose(1, 2) @ x.flatten(1, 2), alpha, beta)
    folded(dweight_hh, base_weight_hh, dz.transpose(1, 2) @ before.flatten(1, 2), alpha, beta)
    folded(dbias_ih, base_bias_ih, bias, alpha, beta)
    folded(dbias_hh, base_bias_hh, bias, alpha, beta)


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
