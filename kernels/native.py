"""The compiled module, found at first use; kernels hand it pointers, strides and sizes."""

from __future__ import annotations

from threading import local
from typing import Any

import torch
from torch import Tensor

from .reference.common import Terms
from .reference.step import clipped
from .segments import Segments

module: Any = None
try:
    from fedfast import _fedfast

    module = _fedfast
except ImportError as error:  # reported at first use, so that the reference voice works without it
    reason = str(error)

DTYPES = (torch.float32, torch.float64)
RULES = (None, "average", "momentum", "adam", "yogi", "adagrad")  # as `enum class Rule`


def require(tensor: Tensor) -> None:
    """Raise RuntimeError without the compiled module, ValueError/TypeError if it cannot serve."""
    if module is None:
        raise RuntimeError(
            "the compiled module fedfast._fedfast is not available "
            f"({reason}); build it with 'pip install -e .' (needs a C++17 compiler), "
            "or choose backend='reference'"
        )
    if tensor.device.type != "cpu":
        raise ValueError(f"backend='native' serves cpu tensors; this one is on {tensor.device}")
    if tensor.dtype not in DTYPES:
        raise TypeError(
            "backend='native' serves float32 and float64; "
            f"got {tensor.dtype} (backend='reference' serves it)"
        )


class Noting(local):
    """While this thread notes a `Plan`: the tensors whose addresses it was given."""

    kept: list[Tensor] | None = None


noting = Noting()
Operand = tuple[int, int]


def not_noted(what: str) -> None:
    """Raise TypeError while a plan is being noted: `what` is torch's own, and would be left out."""
    if noting.kept is not None:
        raise TypeError(f"{what} cannot be part of a plan")


def operand(t: Tensor | None) -> Operand:
    """(address, row stride in elements) of a `[K, S]` operand; (0, 0) for None."""
    return (0, 0) if t is None else (address(t), t.stride(0))


def address(t: Tensor | None) -> int:
    """Address of a vector, 0 for None."""
    if t is None:
        return 0
    if noting.kept is not None:
        noting.kept.append(t)
    return t.data_ptr()


def problem(bank: Tensor) -> tuple[bool, int, int, int]:
    """(float64?, K, S, threads)."""
    return bank.dtype == torch.float64, bank.shape[0], bank.shape[1], torch.get_num_threads()


def listed(terms: Terms) -> list[tuple[int, int, int]]:
    """(address, row stride, address of the coefficients) of every term."""
    return [(*operand(d), address(c)) for d, c in terms]


def table(segments: Segments | None) -> tuple[int, int, int, int]:
    """(L, addresses of offset, length, is_weight), zeros for None; ValueError off the CPU."""
    if segments is None:
        return 0, 0, 0, 0
    if segments.offset.device.type != "cpu":
        raise ValueError(
            f"segments: expected on cpu, as the operands; got {segments.offset.device}"
        )
    return (
        segments.count,
        address(segments.offset),
        address(segments.length),
        address(segments.is_weight),
    )


def perturb(
    w: Tensor,
    terms: Terms,
    rho: Tensor,
    alpha: Tensor,
    eps: float,
    adaptive: float | None,
    norm: Tensor | None,
    segments: Segments | None,
    out: Tensor,
) -> Tensor:
    """`reference.perturb`, compiled."""
    module.perturb(
        problem(w),
        operand(w),
        listed(terms),
        address(rho),
        rho.shape[1],
        address(alpha),
        eps,
        adaptive,
        address(norm),
        table(segments),
        operand(out),
    )
    return out


def step(
    w: Tensor,
    terms: Terms,
    eta: Tensor,
    w_ref: Tensor | None,
    lam: Tensor,
    weight_decay: Tensor,
    clip_norm: Tensor | None,
    momentum: Tensor,
    nesterov: bool,
    m: Tensor | None,
    out: Tensor,
    squares: Tensor | None,
) -> Tensor:
    """`reference.step`, compiled; a clip whose norm is known scales the terms."""
    if squares is not None and clip_norm is not None:
        shrink = clipped(clip_norm, squares.sum(1).sqrt(), w)[:, 0]
        terms, lam, clip_norm = [(d, c * shrink) for d, c in terms], lam * shrink, None
    module.step(
        problem(w),
        operand(w),
        listed(terms),
        address(eta),
        operand(w_ref),
        address(lam),
        address(weight_decay),
        address(clip_norm),
        address(momentum),
        nesterov,
        operand(m),
        operand(out),
    )
    return out


def stats(
    x: Tensor,
    y: Tensor | None,
    x_ref: Tensor | None,
    y_ref: Tensor | None,
    segments: Segments,
    out: Tensor,
) -> Tensor:
    """`reference.stats`, compiled."""
    module.stats(
        problem(x),
        operand(x),
        operand(y),
        operand(x_ref),
        operand(y_ref),
        table(segments),
        address(out),
    )
    return out


def aggregate(
    rows: Tensor,
    weights: Tensor,
    base: Tensor,
    acc: Tensor,
    first: bool,
    rule: str | None,
    scalars: tuple[float, float, float, float],
    w: Tensor | None,
    m: Tensor | None,
    v: Tensor | None,
    out: Tensor | None,
    squares: Tensor,
) -> None:
    """`reference.aggregate`, compiled."""
    module.aggregate(
        problem(rows),
        operand(rows),
        address(weights),
        operand(base),
        address(acc),
        first,
        RULES.index(rule),
        scalars,
        address(w),
        address(m),
        address(v),
        address(out),
        address(squares),
    )


def mix(x: Tensor, y: Tensor, a: Tensor, b: Tensor, out: Tensor) -> Tensor:
    """`reference.mix`, compiled."""
    module.mix(problem(x), operand(x), operand(y), address(a), address(b), operand(out))
    return out


def gram(rows: Tensor, base: Tensor | None, segments: Segments, out: Tensor) -> Tensor:
    """`reference.gram`, compiled."""
    module.gram(problem(rows), operand(rows), operand(base), table(segments), address(out))
    return out


def sensitivity(x: Tensor, y: Tensor, segments: Segments, normalize: bool, out: Tensor) -> Tensor:
    """`reference.sensitivity`, compiled."""
    module.sensitivity(problem(x), operand(x), operand(y), table(segments), normalize, address(out))
    return out
