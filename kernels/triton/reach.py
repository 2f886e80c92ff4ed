"""`reach` in Triton, and which clients' norms `joined` has to know: sums of squares of layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .common import jit, launch, tl
from .sums import slots

LANES = 64


def reach(
    squares: Sequence[Tensor],
    rho: float,
    eps: float,
    most: float,
    radii: Tensor | None,
    out: Tensor,
) -> Tensor:
    """`reach` in Triton."""
    given = parts(squares), radii, rho, eps, most, out
    launch(_reach, out.shape[0], out, *given, LANES=LANES, num_warps=1)
    return out


def doubtful(known: Sequence[Tensor], added: Sequence[Tensor], limit: float) -> Tensor:
    """`[2, K, 1]` float64: zeros, and whether a client's norm may be above the limit, 1 or 0.

    Where it may, the first is all cancelled: see `formed`.
    """
    clients = known[0].shape[0]
    sums = slots(known[0], 2, clients, 1)
    given = parts(known), parts(added), limit, sums, clients
    launch(_doubtful, clients, sums, *given, LANES=LANES, num_warps=1)
    return sums


def parts(squares: Sequence[Tensor]) -> tuple[Tensor | int | None, ...]:
    """One or two tensors `[K, n]`: each with its strides and n; None and zeros for the other."""
    first, second = (*squares, None)[:2]
    return (*_part(first), *_part(second))


def _part(t: Tensor | None) -> tuple[Tensor | None, int, int, int]:
    return (None, 0, 0, 0) if t is None else (t, t.stride(0), t.stride(1), t.shape[1])


@jit
def _lanes(row: tl.tensor, step: tl.tensor, count: tl.tensor, LANES: tl.constexpr) -> tl.tensor:
    """Sums of `count` float64 numbers `step` apart, in lanes."""
    lanes = tl.arange(0, LANES)
    sums = tl.zeros((LANES,), tl.float64)
    for start in range(0, count, LANES):
        n = start + lanes
        sums += tl.load(row + n * step, n < count, other=0.0)
    return sums


@jit
def _first(parts: tl.tuple, k: tl.tensor, LANES: tl.constexpr) -> tl.tensor:
    """The sum of a client's numbers of the first of `parts`."""
    return tl.sum(_lanes(parts[0] + k * parts[1], parts[2], parts[3], LANES), axis=0)


@jit
def _second(parts: tl.tuple, k: tl.tensor, LANES: tl.constexpr) -> tl.tensor:
    """Of the second; 0 without one."""
    sums = tl.zeros((LANES,), tl.float64)
    if parts[4] is not None:
        sums = _lanes(parts[4] + k * parts[5], parts[6], parts[7], LANES)
    return tl.sum(sums, axis=0)


@jit
def norm_of(squares: tl.tuple, k: tl.tensor, LANES: tl.constexpr) -> tl.tensor:
    """The root of all of a client's squares. squares: see `parts`."""
    return tl.sqrt(_first(squares, k, LANES) + _second(squares, k, LANES))


@jit
def _reach(
    squares: tl.tuple,  # see `parts`
    radii: tl.tensor,  # [K] float64 in the place of rho, or none
    rho: tl.float64,
    eps: tl.float64,
    most: tl.float64,
    out: tl.tensor,  # [K]
    LANES: tl.constexpr,
) -> None:
    """One client's radius over its norm, `most` at most."""
    k = tl.program_id(0).to(tl.int64)
    norm = norm_of(squares, k, LANES)
    if radii is not None:
        scale = tl.load(radii + k) / (norm + eps)
    else:
        scale = rho / (norm + eps)
    scale = tl.where(scale > most, most, scale)  # a norm that is no number stays one
    tl.store(out + k, scale.to(out.dtype.element_ty))


@jit(do_not_specialize=["clients"])
def _doubtful(
    known: tl.tuple,  # see `parts`: of the gradient, of all else
    added: tl.tuple,
    limit: tl.float64,
    sums: tl.tensor,  # [2, K, 1]
    clients: tl.tensor,
    LANES: tl.constexpr,
) -> None:
    """Whether `sqrt(rest + (|g| + |a|)^2)` of a client is not at most the limit."""
    k = tl.program_id(0).to(tl.int64)
    addend = _first(added, k, LANES) + _second(added, k, LANES)
    own = tl.sqrt(_first(known, k, LANES)) + tl.sqrt(addend)
    norm = tl.sqrt(_second(known, k, LANES) + own * own)
    tl.store(sums + k, 0.0)
    tl.store(sums + clients + k, tl.where(norm <= limit, 0.0, 1.0))  # NaN: it may
