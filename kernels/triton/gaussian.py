"""Operations of `gaussian.py` in Triton: a program for each input, or for columns of a client."""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, tl
from .functions import exp_down, sigmoid
from .sums import slots

TILE, WARPS = 256, 4


def sample_gaussian(
    h: Tensor,
    samples: int,
    noise: Tensor,
    targets: Tensor,
    count: Tensor,
    alpha: float,
    z: Tensor,
    labels: Tensor,
    counts: Tensor,
) -> None:
    clients, batch, _ = h.shape
    banks = *(h, noise, z), (h.stride(0), noise.stride(0), z.stride(0))
    given = *banks, targets, count, labels, counts, alpha, clients, batch, z.shape[2], samples
    launch(_sample, clients * batch, h, *given, TILE=TILE, num_warps=WARPS)


def sample_gaussian_backward(
    h: Tensor,
    samples: int,
    noise: Tensor,
    dz: Tensor,
    targets: Tensor,
    count: Tensor,
    mean: Tensor,
    spread: Tensor,
    alpha: float,
    beta: float,
    losses: Tensor,
    dh: Tensor,
) -> None:
    (clients, batch, _), parts = h.shape, slots(h, h.shape[0], h.shape[1])
    banks = h, noise, dz, dh, mean, spread
    strides = tuple(t.stride(0) for t in banks)
    sizes = clients, batch, dz.shape[2], samples, mean.shape[1]
    given = *banks, strides, targets, count, parts, alpha, beta, *sizes
    launch(_sample_backward, clients * batch, h, *given, TILE=TILE, num_warps=WARPS)
    if beta:
        own = parts, count, losses, losses.stride(0), beta, batch
        launch(_add_divergences, clients, h, *own, num_warps=1)


def sum_gaussians(
    h: Tensor,
    targets: Tensor,
    count: Tensor,
    last: Tensor,
    alpha: float,
    precision: Tensor,
    pull: Tensor,
) -> None:
    clients, batch, _ = h.shape
    _, classes, size = precision.shape
    banks = h, precision, pull
    given = *banks, tuple(t.stride(0) for t in banks), targets, count, last, alpha
    across = -(-size // TILE)
    sizes = clients, batch, size, classes
    launch(_sum, clients * across, h, *given, *sizes, TILE=TILE, num_warps=WARPS)


@jit
def _softplus(x: tl.tensor) -> tl.tensor:
    """torch's; `log(1 + e)` without the digits that 1 + e loses.

    In float64 always: the hardware's float32 logarithm has an absolute error, and sigma is small.
    """
    e = exp_down(-tl.abs(x)).to(tl.float64)
    one = 1.0 + e
    if x.dtype == tl.float64:
        rest = tl.where(one == 1.0, e, tl.log(one) * (e / tl.where(one == 1.0, 1.0, one - 1.0)))
    else:
        rest = tl.where(e < 1e-8, e, tl.log(one))  # within float32's rounding either way
    return tl.where(x > 20.0, x, tl.where(x > 0, x, 0.0) + rest.to(x.dtype))


@jit(do_not_specialize=["clients"])
def _sample(
    h: tl.tensor,  # [K, B, 2 D]
    noise: tl.tensor,  # [K, B L, D]
    z: tl.tensor,  # [K, B L, D]
    strides: tl.tuple,  # over K, of these
    targets: tl.tensor,  # [K, B]
    count: tl.tensor,  # [K]
    labels: tl.tensor,  # [K, B L]
    counts: tl.tensor,  # [K]
    alpha: tl.float64,
    clients: tl.tensor,
    batch: tl.tensor,
    size: tl.tensor,
    samples: tl.tensor,
    TILE: tl.constexpr,
) -> None:
    """The rows of one input."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    b = tl.program_id(0) // clients
    n = tl.load(count + k)
    if b == 0:
        tl.store(counts + k, n * samples)
    label = tl.load(targets + k * batch + b)
    for j in range(samples):
        tl.store(labels + (k * batch + b) * samples + j, label)
    own = h + k * strides[0] + b * 2 * size
    shift = tl.full((), alpha, h.dtype.element_ty)
    kept = tl.where(b < n, size, 0)
    for first in range(0, size, TILE):
        d = first + tl.arange(0, TILE)
        mask, real = d < size, d < kept
        mu = tl.load(own + d, mask, other=0.0)
        sigma = _softplus(tl.load(own + size + d, mask, other=0.0) - shift)
        for j in range(samples):
            at = (b * samples + j) * size + d
            drawn = tl.load(noise + k * strides[1] + at, real, other=0.0)
            tl.store(z + k * strides[2] + at, tl.where(real, mu + sigma * drawn, 0.0), mask)


@jit(do_not_specialize=["clients"])
def _sample_backward(
    h: tl.tensor,  # [K, B, 2 D]
    noise: tl.tensor,  # [K, B L, D]
    dz: tl.tensor,  # [K, B L, D]
    dh: tl.tensor,  # [K, B, 2 D]
    mean: tl.tensor,  # [K, C, D]
    spread: tl.tensor,  # [K, C, D]
    strides: tl.tuple,  # over K, of these
    targets: tl.tensor,  # [K, B]
    count: tl.tensor,  # [K]
    parts: tl.tensor,  # [K, B] float64, divergences
    alpha: tl.float64,
    beta: tl.float64,
    clients: tl.tensor,
    batch: tl.tensor,
    size: tl.tensor,
    samples: tl.tensor,
    classes: tl.tensor,
    TILE: tl.constexpr,
) -> None:
    """The gradient of one input's Gaussian, and its divergence."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    b = tl.program_id(0) // clients
    n = tl.load(count + k)
    kept = tl.where(b < n, size, 0)
    label = tl.load(targets + k * batch + b)
    fine = (label >= 0) & (label < classes) & (n <= batch)
    prior = tl.where(fine, label, 0) * size
    own = h + k * strides[0] + b * 2 * size
    to = dh + k * strides[3] + b * 2 * size
    shift = tl.full((), alpha, h.dtype.element_ty)
    share = (beta / n.to(tl.float64)).to(h.dtype.element_ty)
    apart = tl.zeros((TILE,), tl.float64)
    for first in range(0, size, TILE):
        d = first + tl.arange(0, TILE)
        mask = d < kept
        mu = tl.load(own + d, mask, other=0.0)
        x = tl.load(own + size + d, mask, other=0.0) - shift
        sigma = _softplus(x)
        dmu = tl.zeros_like(mu)
        dsigma = tl.zeros_like(mu)
        for j in range(samples):
            at = (b * samples + j) * size + d
            one = tl.load(dz + k * strides[2] + at, mask, other=0.0)
            dmu += one
            dsigma += one * tl.load(noise + k * strides[1] + at, mask, other=0.0)
        if beta != 0:
            gap = mu - tl.load(mean + k * strides[4] + prior + d, mask, other=0.0)
            s = tl.load(spread + k * strides[5] + prior + d, mask, other=1.0)
            square = (s * s + gap * gap) / (sigma * sigma)
            dmu += share * gap / (sigma * sigma)
            dsigma += share * (1.0 - square) / sigma
            value = 0.5 * (square.to(tl.float64) - 1.0) - tl.log((s / sigma).to(tl.float64))
            apart += tl.where(mask, value, 0.0)
        slope = tl.where(x > 20.0, 1.0, sigmoid(x))
        tl.store(to + d, tl.where(mask, dmu, 0.0), d < size)
        tl.store(to + size + d, tl.where(mask, dsigma * slope, 0.0), d < size)
    wrong = tl.where((kept > 0) & (fine == 0), float("nan"), 0.0)
    tl.store(parts + k * batch + b, tl.sum(apart, axis=0) + wrong)


@jit
def _add_divergences(
    parts: tl.tensor,  # [K, B] float64
    count: tl.tensor,  # [K]
    losses: tl.tensor,  # [K]
    stride: tl.tensor,
    beta: tl.float64,
    batch: tl.tensor,
) -> None:
    """The mean of a client's divergences, added to its loss."""
    k = tl.program_id(0).to(tl.int64)
    total = tl.zeros((128,), tl.float64)
    for first in range(0, batch, 128):
        b = first + tl.arange(0, 128)
        total += tl.load(parts + k * batch + b, b < batch, other=0.0)
    found = tl.sum(total, axis=0) * (beta / tl.load(count + k).to(tl.float64))
    at = losses + k * stride
    tl.store(at, tl.load(at) + found.to(losses.dtype.element_ty))


@jit(do_not_specialize=["clients"])
def _sum(
    h: tl.tensor,  # [K, B, 2 D]
    precision: tl.tensor,  # [K, C, D]
    pull: tl.tensor,  # [K, C, D]
    strides: tl.tuple,  # over K, of these
    targets: tl.tensor,  # [K, B]
    count: tl.tensor,  # [K]
    last: tl.tensor,  # [K]
    alpha: tl.float64,
    clients: tl.tensor,
    batch: tl.tensor,
    size: tl.tensor,
    classes: tl.tensor,
    TILE: tl.constexpr,
) -> None:
    """Some columns of a client: its inputs in order, each to the row of its class."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    d = tl.program_id(0) // clients * TILE + tl.arange(0, TILE)
    factor = tl.load(last + k)
    shift = tl.full((), alpha, h.dtype.element_ty)
    n = tl.minimum(tl.load(count + k), batch)
    for b in range(tl.where(factor != 0, n, 0)):
        label = tl.load(targets + k * batch + b)
        mask = d < tl.where((label >= 0) & (label < classes), size, 0)
        own = h + k * strides[0] + b * 2 * size + d
        mu = tl.load(own, mask, other=0.0)
        sigma = _softplus(tl.load(own + size, mask, other=0.0) - shift)
        added = factor / (sigma * sigma)
        one = precision + k * strides[1] + label * size + d
        other = pull + k * strides[2] + label * size + d
        tl.store(one, tl.load(one, mask, other=0.0) + added, mask)
        tl.store(other, tl.load(other, mask, other=0.0) + mu * added, mask)
        tl.debug_barrier()  # the next input may be of the same class
