"""`step`: the descent of every algorithm in one pass, for K clients at once.

    d = sum_j c_j d_j + lam (w - w_ref)              gradient and corrections
    d = d * min(1, clip_norm / (|d| + 1e-6))         optional, over the client's whole row
    v = d + weight_decay * w                         joins after clipping, as in torch SGD
    m = momentum * m + v ;  v = m  (or v + momentum * m with Nesterov)       optional
    out = w - eta * v

Bytes per element of a client (f = element size, J = number of per-client terms): reads (J + 1) f,
plus f for `w_ref`, writes f, plus 2 f for momentum: 12 bytes for SGD in float32. Clipping adds one
pass of reads, J f (+ 2 f with `w_ref`). Shared rows stay in cache.

Deterministic: the clip norm adds fixed blocks in a fixed order; everything else is element-wise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._args import Coefficient, TermsLike, output64
from ._scalars import flag, number
from .declaration import In, InOut, Number, Out, PerClient, Require, Terms
from .operation import operation
from .placed import PlacedRows

F64 = torch.float64


def _needs_bank(w: Tensor | PlacedRows, out: Tensor | PlacedRows | None) -> None:
    if out is None and isinstance(w, Tensor) and w.ndim == 1:
        raise ValueError("out: expected a bank [K, S], since w is a row [S]; got None")


def _needs_moment(momentum: Coefficient, nesterov: bool, m: Tensor | None) -> None:
    if m is not None or (momentum.__class__ is float and momentum == 0.0 and nesterov is False):
        return
    if isinstance(momentum, Tensor) or number("momentum", momentum) or flag("nesterov", nesterov):
        raise ValueError("m: expected a bank [K, S], which momentum needs; got None")


def _known(
    name: str, squares: Tensor, clip_norm: Tensor | None, w: Tensor | PlacedRows
) -> Tensor | None:
    if clip_norm is None:
        return None
    count = squares.shape[-1] if isinstance(squares, Tensor) and squares.ndim else 0
    return output64(name, squares, (w.shape[0], count), w)


@operation(
    Require("shared", check=_needs_bank, using="w out"),
    In("w", "K S", placed=True),
    Terms("terms"),
    Require("moment", check=_needs_moment, using="momentum nesterov m"),
    PerClient("eta"),
    In("w_ref", "K S", optional=True),
    PerClient("lam"),
    PerClient("weight_decay"),
    PerClient("clip_norm", optional=True),
    PerClient("momentum"),
    Number("nesterov", type=bool),
    InOut("m", "K S", optional=True, may="out"),
    Out("out", "K S", default="w", may="w terms w_ref m", placed=True),
    In("squares", "K N", F64, optional=True, check=_known, using="clip_norm w", native=False),
    returns="out",
    moves="J terms + w + w_ref + out + 2 m",
)
def step(
    w: Tensor | PlacedRows,
    terms: TermsLike,
    eta: Coefficient,
    *,
    out: Tensor | PlacedRows | None = None,
    w_ref: Tensor | None = None,
    lam: Coefficient = 0.0,
    weight_decay: Coefficient = 0.0,
    clip_norm: Coefficient | None = None,
    squares: Tensor | None = None,
    momentum: Coefficient = 0.0,
    nesterov: bool = False,
    m: Tensor | None = None,
    backend: str = "auto",
) -> Tensor | PlacedRows:
    """One optimizer step, `out = w - eta * v`; see the formula at the head of `kernels/step.py`.

    w             `[K, S]`, or a row `[S]` shared by all clients (the first local step reads the
                  global row); terms, `w` and `out` may also be `PlacedRows`, rows of a table that
                  are read and written where they lie
    terms         gradient and corrections: a tensor, or a sequence of tensors and (tensor,
                  coefficient); tensors `[K, S]` or `[S]`, coefficients numbers or `[K]`
    eta           learning rate, a number or `[K]`
    out           `[K, S]`; None writes into `w`, which then must be a bank; may be `w` or a term
                  itself, but not overlap one shifted
    w_ref, lam    proximal term lam (w - w_ref), inside the clip (for the FL-Simulator form pass
                  -lam * w_ref as a term and add lam to `weight_decay`)
    clip_norm     largest norm of d, a number or `[K]`; None does not clip
    squares       `[K, n]` float64, contiguous, whose sum over n is |d|^2 where that is known: the
                  clip then reads nothing for it
    momentum, m   torch-style momentum in the bank `m` `[K, S]`, updated in place; zero it before
                  the first step

    Raises TypeError/ValueError naming the argument for wrong shapes, dtypes or devices, or momentum
    without `m`.
    Source: the normal form shared by FedAvg, FedProx, SCAFFOLD, FedDyn, FedCM and their SAM
    variants.
    """
