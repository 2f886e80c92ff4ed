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

from ._args import Coefficient, bank_like, same_kind
from ._scalars import kind_of
from .declaration import Argument, In, InOut, Made, Number, Out, PerClient
from .operation import operation
from .server import RULES as RULES
from .server import Server


def _clients(name: str, value: Tensor) -> Tensor:
    bank = bank_like(name, value, [])
    if bank.shape[0] == 0:
        raise ValueError(f"{name}: expected at least one client; got {list(bank.shape)}")
    return bank


def _sum(name: str, acc: Tensor, bank: Tensor) -> Tensor:
    if not isinstance(acc, Tensor):
        raise TypeError(f"{name}: expected a tensor; got {kind_of(acc)}")
    if acc.dtype != torch.float64 or acc.shape != bank.shape[1:] or not acc.is_contiguous():
        raise ValueError(
            f"{name}: expected contiguous float64 [{bank.shape[1]}]; "
            f"got {acc.dtype} {list(acc.shape)}, strides {acc.stride()}"
        )
    if acc.device != bank.device:
        raise ValueError(f"{name}: expected device {bank.device}; got {acc.device}")
    return acc


Rows = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor]


def _step(
    bank: Tensor,
    base: Tensor,
    server: Server | None,
    w: Tensor | None,
    m: Tensor | None,
    v: Tensor | None,
    out: Tensor | None,
) -> Rows:
    """w, m, v, out and squares as the server's step needs them; the first four None without one."""
    shape, nan = (bank.shape[0] + 1,), float("nan")
    squares = torch.full(shape, nan, dtype=torch.float64, device=bank.device)
    if server is None:
        return None, None, None, None, squares
    if not isinstance(server, Server):
        raise TypeError(f"server: expected a Server; got {kind_of(server)}")
    w = _row("w", base if w is None else w, bank)
    out = torch.empty_like(w) if out is None else _row("out", out, bank)
    return w, *_moments(server, m, v, bank), out, squares


def _row(name: str, value: Tensor, bank: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor [S]; got {kind_of(value)}")
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


@operation(
    In("client_rows", "K S", check=_clients),
    PerClient("weights"),
    Made("w m v out squares", check=_step, using="client_rows base server w m v out", passed=False),
    In("base", "K S"),
    InOut("acc", "S", torch.float64, check=_sum, using="client_rows"),
    Number("first", type=bool),
    Argument("server"),
    In("w", "S", optional=True, ready=True),
    InOut("m", "S", optional=True, ready=True),
    InOut("v", "S", optional=True, ready=True),
    Out("out", "S", optional=True, may="w base", ready=True),
    Out("squares", "N", torch.float64, public=False, ready=True),
    returns="squares",
    moves="client_rows + base / K + (w + out + m + v + 16) / K",
)
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
