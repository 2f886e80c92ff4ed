"""The meaning of the layer operations, in plain torch: linear, activation, loss, gather.

No tricks: whole-tensor expressions, any floating dtype (float64 in tests), any device. Arguments
arrive normalised by the public function of the same name: `[K, ...]`, per-client scalars `[K]`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def _apply(x: Tensor, kind: str | None, slope: float = 0.0) -> Tensor:
    match kind:
        case None:
            return x
        case "relu":
            return torch.relu(x)
        case "tanh":
            return torch.tanh(x)
        case "gelu":
            return x * _phi(x)
        case "silu":
            return x * torch.sigmoid(x)
        case "leaky_relu":
            return torch.where(x > 0, x, slope * x)
        case "sigmoid":
            return torch.sigmoid(x)
        case "relu6":
            return torch.clamp(x, 0, 6)
    raise ValueError(f"kind: {kind!r}")


def _derivative(x: Tensor, out: Tensor, kind: str, slope: float = 0.0) -> Tensor:
    match kind:
        case "relu":
            return (out > 0).to(out.dtype)
        case "tanh":
            return 1 - out * out
        case "gelu":
            return _phi(x) + x * torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        case "silu":
            s = torch.sigmoid(x)
            return s * (1 + x * (1 - s))
        case "leaky_relu":
            return torch.where(x > 0, torch.ones_like(x), slope)
        case "sigmoid":
            return out * (1 - out)
        case "relu6":
            return ((out > 0) & (out < 6)).to(out.dtype)
    raise ValueError(f"kind: {kind!r}")


def _phi(x: Tensor) -> Tensor:
    """The normal distribution function."""
    return (1 + torch.erf(x / math.sqrt(2))) / 2


def activation(x: Tensor, kind: str, slope: float, out: Tensor) -> Tensor:
    """`out = act(x)`."""
    return out.copy_(_apply(x, kind, slope))


def activation_backward(
    x: Tensor, out: Tensor, dout: Tensor, kind: str, slope: float, dx: Tensor
) -> Tensor:
    """`dx = dout * act'(x)`."""
    return dx.copy_(dout * _derivative(x, out, kind, slope))


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None,
    out: Tensor,
    precision: str,
) -> Tensor:
    """`out = act(x W^T + b)`."""
    z = x @ weight.transpose(1, 2)
    return out.copy_(_apply(z if bias is None else z + bias[:, None], activation))


def linear_backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    dout: Tensor,
    activation: str | None,
    dx: Tensor | None,
    dweight: Tensor | None,
    dbias: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    base_weight: Tensor | None,
    base_bias: Tensor | None,
    precision: str,
    squares: Tensor | None,
) -> None:
    """`dx = dout W`, then `dweight = beta base + alpha dout^T x`, dbias likewise."""
    if activation is not None:
        dout.mul_(_derivative(out, out, activation))
    if dx is not None:
        dx.copy_(dout @ weight)
    if dweight is not None:
        folded(dout.transpose(1, 2) @ x, alpha, beta, base_weight, dweight)
    if dbias is not None:
        folded(dout.sum(1), alpha, beta, base_bias, dbias)
    squared(squares, dweight, dbias)


def squared(to: Tensor | None, *written: Tensor | None) -> None:
    """to `[K]`, if given: the sum of squares of all that was written, in float64."""
    if to is not None:
        rows = [t.flatten(1).double() for t in written if t is not None]
        to.copy_(torch.cat(rows, dim=1).square().sum(1))


def folded(gradient: Tensor, alpha: Tensor, beta: Tensor, base: Tensor | None, to: Tensor) -> None:
    """`to = beta * base + alpha * gradient`, client by client; base counts only where beta != 0."""
    a, b = (c.view(-1, *[1] * (gradient.ndim - 1)) for c in (alpha, beta))
    kept = 0.0 if base is None else torch.where(b == 0, 0.0, b * base)
    to.copy_(kept + a * gradient)


def ghost(x: Tensor, d: Tensor, ones: float, gram: Tensor, squares: Tensor) -> None:
    """`gram = x x^T + ones`, `squares = |d^T x|^2 + ones |sum_B d|^2`, with the gradient formed."""
    gram.copy_(x @ x.transpose(1, 2) + ones)
    weight, bias = (d.transpose(1, 2) @ x).double(), d.sum(1).double()
    squares.copy_(weight.square().sum((1, 2)) + ones * bias.square().sum(1))


def reach(squares: Sequence[Tensor], rho: float, eps: float, most: float, out: Tensor) -> Tensor:
    """`out = min(rho / (sqrt(sum of all squares) + eps), most)`."""
    total = sum(s.sum(1) for s in squares)
    return out.copy_((rho / (torch.as_tensor(total).sqrt() + eps)).clamp(max=most))


def lowrank(
    x: Tensor,
    u: Tensor,
    v: Tensor,
    scale: Tensor,
    ones: float,
    gram: Tensor | None,
    base: Tensor,
    activation: str | None,
    out: Tensor,
) -> Tensor:
    """`out = act(base + scale (x u^T + ones) v)`."""
    product = (x @ u.transpose(1, 2) + ones if gram is None else gram) @ v
    return out.copy_(_apply(base + scale[:, None, None] * product, activation))


def cross_entropy(
    logits: Tensor, targets: Tensor, count: Tensor, losses: Tensor, dlogits: Tensor
) -> None:
    """Each client's mean cross-entropy over its first `count` rows, and its gradient."""
    batch, classes = logits.shape[1:]
    inside = torch.arange(batch, device=logits.device) < count[:, None]  # [K, B]
    targets = torch.where(inside, targets, 0)
    if bool((targets < 0).any() | (targets >= classes).any() | (count > batch).any()) or bool(
        (count < 0).any()
    ):
        raise IndexError(OUT_OF_RANGE)
    log_p = torch.log_softmax(logits, 2)
    picked = log_p.gather(2, targets[..., None])[..., 0]
    rows = count.to(logits.dtype)
    losses.copy_(-torch.where(inside, picked, 0.0).sum(1) / rows)
    onehot = torch.nn.functional.one_hot(targets, classes)
    gradient = (log_p.exp() - onehot) / rows[:, None, None]
    dlogits.copy_(torch.where(inside[..., None], gradient, 0.0))


OUT_OF_RANGE = "cross_entropy: expected targets in [0, C) and counts in [0, B]; one is not"


@dataclass(frozen=True)
class Look:
    """How images of bytes are seen.

    scale, shift  `[C]`: a byte v becomes scale v + shift
    margin        `[C]`: what lies outside of the image
    offset, flip  `[K, B, 2]` int32 (y, x) and `[K, B]` uint8; both or neither
    """

    scale: Tensor
    shift: Tensor
    margin: Tensor
    offset: Tensor | None
    flip: Tensor | None


def image(bank: Tensor, look: Look | None) -> tuple[int, int, int]:
    """(channels, height, width) of a sample; one row of pixels where it is seen as it is."""
    if look is not None and look.offset is not None:
        return bank.shape[1], bank.shape[2], bank.shape[3]
    channels = 1 if look is None else look.scale.shape[0]
    return channels, 1, bank.shape[1:].numel() // channels


def gather(bank: Tensor, rows: Tensor, look: Look | None, out: Tensor) -> Tensor:
    """`out = bank[rows]`; with a look `scale v + shift`, cropped and mirrored."""
    if rows.numel() and bool(((rows < 0) | (rows >= bank.shape[0])).any()):
        raise IndexError(ROW_OUT_OF_RANGE.format(bank.shape[0]))
    samples = bank[rows]
    if look is None:
        return out.copy_(samples)
    values = samples.to(out.dtype).view(*rows.shape, *image(bank, look))
    values = values * look.scale.view(-1, 1, 1) + look.shift.view(-1, 1, 1)
    if look.offset is not None and look.flip is not None:
        values = _moved(values, look.margin.view(-1, 1, 1), look.offset, look.flip)
    return out.copy_(values.view(out.shape))


def _moved(values: Tensor, margin: Tensor, offset: Tensor, flip: Tensor) -> Tensor:
    """`values[..., y + oy, x' + ox]`, x' = x or W - 1 - x. values `[K, B, C, H, W]`."""
    height, width = values.shape[3:]
    down, right = torch.arange(height, device=flip.device), torch.arange(width, device=flip.device)
    y = down + offset[..., :1].long()  # [K, B, H]
    x = torch.where(flip[..., None] != 0, right.flip(0), right) + offset[..., 1:].long()
    fits = ((0 <= y) & (y < height))[..., None] & ((0 <= x) & (x < width))[..., None, :]
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    taken = values.gather(3, y[:, :, None, :, None].expand(values.shape))
    taken = taken.gather(4, x[:, :, None, None, :].expand(values.shape))
    return torch.where(fits[:, :, None], taken, margin)


ROW_OUT_OF_RANGE = "rows: expected rows of the bank, in [0, {}); one is not"
