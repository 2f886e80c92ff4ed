"""Sampled representations: Gaussians of K clients' inputs, their gradient, and sums by class.

    h[k, b] = (mu, x);   sigma = softplus(x - alpha);   N(mu, sigma^2) of each of D dimensions
    sample_gaussian:           z[k, b L + l] = mu + sigma noise[k, b L + l]       for b < count[k]
    sample_gaussian_backward:  dh of  (what dz is the gradient of) + beta mean_b KL(r_y || N)
                               losses[k] += beta mean_b KL(r_y || N),  r_y = N(mean_y, spread_y^2)
    sum_gaussians:             precision[k, y] += last[k] sum over b of class y of 1 / sigma^2
                               pull[k, y]      += last[k] sum of mu / sigma^2

KL(N(m, s^2) || N(mu, sigma^2)) = 1/2 sum_d (s^2 + (mu - m)^2) / sigma^2 - 1 - log(s^2 / sigma^2).
A sample's L rows lie side by side, so that the real ones of a ragged batch are the first ones.
The softplus is torch's: the argument itself above 20.
Bytes per element of z (f = element size): reads f, writes f; backward reads 2 f, and h and dh once.
Deterministic: every sum is one thread's or one program's, in order; of losses in float64.
Source: Kingma & Welling 2014, "Auto-Encoding Variational Bayes"; FedCR (Zhang et al. 2023).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ._args import Coefficient
from ._blocks import dense_integers, floating
from .declaration import In, InOut, Made, Number, Out, PerClient
from .operation import operation

OUT_OF_RANGE = "targets, count: expected targets in [0, {C}) and counts in [0, B]; one is not"
COUNT_OUT_OF_RANGE = "count: expected counts in [0, B]; one is not"


def _halves(name: str, value: object) -> Tensor:
    h = floating(name, value, "K, B, 2 D")
    if h.shape[2] % 2:
        raise ValueError(f"{name}: expected shape [K, B, 2 D]; got {list(h.shape)}")
    return h


def _samples(noise: object, h: Tensor) -> int:
    """L"""
    given, batch = floating("noise", noise, "K, B L, D"), h.shape[1]
    rows = given.shape[1]
    if batch == 0 or rows % batch or 2 * given.shape[2] != h.shape[2]:
        wanted = f"[{h.shape[0]}, L {batch}, {h.shape[2] // 2}]"
        raise ValueError(f"noise: expected shape {wanted}; got {list(given.shape)}")
    return rows // batch


def _integers(dtype: torch.dtype, dims: int) -> Callable[[str, Tensor | None, Tensor], Tensor]:
    """A check of a result as long as the noise's first `dims` dimensions; allocated if None."""

    def check(name: str, value: Tensor | None, noise: Tensor) -> Tensor:
        shape = noise.shape[:dims]
        made = noise.new_empty(shape, dtype=dtype) if value is None else value
        return dense_integers(name, made, shape, dtype, noise)

    return check


@operation(
    In("h", "K B E", check=_halves),
    Made("samples", check=_samples, using="noise h"),
    In("noise", "K R D"),
    In("targets", "K B", torch.int64),
    In("count", "K", torch.int32),
    Number("alpha"),
    Out("z", "K R D"),
    Out("labels", "K R", torch.int64, check=_integers(torch.int64, 2), using="noise"),
    Out("counts", "K", torch.int32, check=_integers(torch.int32, 1), using="noise"),
    returns="z labels counts",
    out_of_range=COUNT_OUT_OF_RANGE,
    moves="h + noise + z",
)
def sample_gaussian(
    h: Tensor,
    noise: Tensor,
    targets: Tensor,
    count: Tensor,
    *,
    alpha: float = 0.0,
    z: Tensor | None = None,
    labels: Tensor | None = None,
    counts: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (z, labels, counts).

    h        `[K, B, 2 D]`, each client's part contiguous
    noise    `[K, B L, D]`; what lies beyond the count is not read
    targets  `[K, B]` int64
    count    `[K]` int32, in [0, B]
    z        `[K, B L, D]`, 0 beyond the count; allocated if None
    labels   `[K, B L]` int64: targets, each L times; allocated if None
    counts   `[K]` int32: L count; allocated if None
    Raises TypeError/ValueError naming the argument, IndexError for a count out of range (the native
    backend then has written the other clients; Triton writes as if all rows beyond B were none).
    """


@operation(
    In("h", "K B E", check=_halves),
    Made("samples", check=_samples, using="noise h"),
    In("noise", "K R D"),
    In("dz", "K R D"),
    In("targets", "K B", torch.int64),
    In("count", "K", torch.int32),
    In("mean", "K C D"),
    In("spread", "K C D"),
    Number("alpha"),
    Number("beta"),
    InOut("losses", "K"),
    Out("dh", "K B E"),
    returns="dh",
    out_of_range=OUT_OF_RANGE,
    moves="2 h + noise + dz",
)
def sample_gaussian_backward(
    h: Tensor,
    noise: Tensor,
    dz: Tensor,
    targets: Tensor,
    count: Tensor,
    mean: Tensor,
    spread: Tensor,
    *,
    losses: Tensor,
    alpha: float = 0.0,
    beta: float = 0.0,
    dh: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return dh.

    h, noise, targets, count   as given to `sample_gaussian`; targets are classes in [0, C)
    dz            `[K, B L, D]`
    mean, spread  `[K, C, D]`, or `[C, D]` for all clients; not read where beta is 0
    losses        `[K]`, to which beta times the mean divergence is added
    dh            as h, 0 beyond the count; allocated if None
    Raises as `sample_gaussian`, IndexError also for a target out of range: Triton, which cannot
    look without waiting for the device, makes that client's loss NaN.
    """


@operation(
    In("h", "K B E", check=_halves),
    In("targets", "K B", torch.int64),
    In("count", "K", torch.int32),
    PerClient("last"),
    Number("alpha"),
    InOut("precision", "K C D"),
    InOut("pull", "K C D"),
    out_of_range=OUT_OF_RANGE,
    moves="h",
)
def sum_gaussians(
    h: Tensor,
    targets: Tensor,
    count: Tensor,
    last: Coefficient = 1.0,
    *,
    precision: Tensor,
    pull: Tensor,
    alpha: float = 0.0,
    backend: str = "auto",
) -> None:
    """Add to precision and pull.

    h, targets, count  as given to `sample_gaussian_backward`
    last               a number or `[K]`; clients for whom it is 0 add nothing
    precision, pull    `[K, C, D]`
    Raises as `sample_gaussian_backward`; in Triton a target out of range adds nothing.
    """
