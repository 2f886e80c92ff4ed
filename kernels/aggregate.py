"""`aggregate`: the weighted mean of client updates, in chunks, with the server's step in the last.

    acc  (+)= sum_k a_k (rows_k - base_k)            float64, client after client
    out  = w + server rule(acc)                      on the last chunk

The server's rules are in `server.py`.

Bytes per element of the row (f = element size): K f for the clients, f for a shared base (K f for
one each), 16 for `acc` (8 on the first chunk), and on the last chunk 2 f for w and out, 2 f for
each moment.
Clients are added one after another into float64, so the result does not depend on the chunks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import native
from ._args import Coefficient, bank_like, per_client, rows, same_kind
from .reference import aggregate as reference
from .registry import dispatch
from .server import RULES as RULES
from .server import Server
from .triton import aggregate as triton


def aggregate(
    client_rows: Tensor,
    weights: Coefficient,
    base: Tensor,
    *,
    acc: Tensor,
    first: bool = True,
    server: Server | None = None,
    w: Tensor | None = None,
    m: Tensor | None = None,
    v: Tensor | None = None,
    out: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Add a chunk of client updates to `acc`; with `server`, also take the server's step from it.

    client_rows  `[K, S]`, the clients' models after local training
    weights      `[K]` or a number, `a_k`; they should sum to 1 over all chunks of a mean
    base         `[S]` or `[K, S]`, what updates are measured from: where each client started
    acc          `[S]` float64, the running sum; overwritten if `first`, added to otherwise
    server       None for every chunk but the last
    w, out       `[S]`, the server's model before and after; default base and a new row; `out` may
                 alias `w`
    m, v         `[S]` moments of the server rule, updated in place
    Returns `[K + 1]` float64: squared norm of each client's update, then that of `acc` after the
    last chunk (NaN before).
    Raises TypeError/ValueError naming the argument for wrong shapes, dtypes, devices or missing
    moments.
    Sources: FedAvg (McMahan et al. 2017, alg. 1), FedAvgM (Hsu et al. 2019), FedOpt (Reddi et al.
    2021, alg. 2).
    """
    bank = bank_like("client_rows", client_rows, [])
    if bank.shape[0] == 0:
        raise ValueError(f"client_rows: expected at least one client; got {list(bank.shape)}")
    a = per_client("weights", weights, bank)
    start = rows("base", base, bank)
    _check_sum(acc, bank)
    if server is not None:
        if not isinstance(server, Server):
            raise TypeError(f"server: expected a Server; got {type(server).__name__}")
        w = _row("w", base if w is None else w, bank)
        out = torch.empty_like(w) if out is None else _row("out", out, bank)
        m, v = _moments(server, m, v, bank)
    else:
        w = m = v = out = None
    squares = torch.full(
        (bank.shape[0] + 1,), float("nan"), dtype=torch.float64, device=bank.device
    )
    rule = None if server is None else server.rule
    scalars = (0.0,) * 4 if server is None else (server.lr, server.beta1, server.beta2, server.tau)
    dispatch(
        _VOICES, backend, bank, bank, a, start, acc, first, rule, scalars, w, m, v, out, squares
    )
    return squares


def _check_sum(acc: Tensor, bank: Tensor) -> None:
    if not isinstance(acc, Tensor):
        raise TypeError(f"acc: expected a tensor; got {type(acc).__name__}")
    if acc.dtype != torch.float64 or acc.shape != bank.shape[1:] or not acc.is_contiguous():
        raise ValueError(
            f"acc: expected contiguous float64 [{bank.shape[1]}]; "
            f"got {acc.dtype} {list(acc.shape)}, strides {acc.stride()}"
        )
    if acc.device != bank.device:
        raise ValueError(f"acc: expected device {bank.device}; got {acc.device}")


def _row(name: str, value: Tensor, bank: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor [S]; got {type(value).__name__}")
    if value.ndim != 1 or value.shape != bank.shape[1:] or not value.is_contiguous():
        raise ValueError(
            f"{name}: expected a contiguous row [{bank.shape[1]}]; got {list(value.shape)}"
        )
    same_kind(name, value, bank)
    return value


def _moments(
    server: Server, m: Tensor | None, v: Tensor | None, bank: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """The moment rows the rule uses, checked; rows it does not use are dropped."""
    for name, value, needed in (("m", m, server.moments > 0), ("v", v, server.moments > 1)):
        if needed and value is None:
            raise ValueError(
                f"{name}: expected a row [S], which the rule {server.rule!r} needs; got None"
            )
    m = _row("m", m, bank) if m is not None and server.moments > 0 else None
    v = _row("v", v, bank) if v is not None and server.moments > 1 else None
    return m, v


_VOICES = {
    "reference": reference.aggregate,
    "native": native.aggregate,
    "triton": triton.aggregate,
}
