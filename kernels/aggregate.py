"""`aggregate`: the weighted mean of client updates, in chunks, with the server's step in the last.

    acc  (+)= sum_k a_k (rows_k - base_k)            float64, in the order of `summation.py`
    out  = w + server rule(acc)                      on the last chunk

The server's rules are in `server.py`.

Bytes per element of the row (f = element size): K f for the clients, f for a shared base (K f for
one each), 8 for `acc`, and on the last chunk 2 f for w and out, 2 f for each moment. A cohort in
several chunks has 8 more for each node that a chunk leaves or takes up.
The order of additions follows from the number of clients alone, so that chunks leave no trace.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._args import Coefficient, bank_like, same_kind
from ._scalars import kind_of, number
from .declaration import Argument, In, InOut, Made, Number, Out, PerClient
from .operation import operation
from .server import RULES as RULES
from .server import Server
from .summation import leaf_size, order, order_tensor


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


def _order(
    bank: Tensor,
    acc: Tensor,
    nodes: Tensor | None,
    first: bool,
    at: int,
    of: int,
    begin: int,
    server: Server | None,
) -> tuple[Tensor | None, Tensor]:
    """The nodes above `acc`, checked, and the order of additions."""
    count, alone = bank.shape[0], not of
    at, of, begin = place(count, at, of, begin, server)
    found = order(count, at, of, begin, int(alone and not first))
    above = max(found[0], found[-1]) - 1
    check_nodes(nodes, bank, above)
    held = None if nodes is None or above <= 0 else nodes[:above]
    return held, order_tensor(found, bank.device)


def check_nodes(nodes: Tensor | None, bank: Tensor, above: int) -> None:
    """Raise ValueError unless these are `above` nodes or more, in memory for `bank`'s sums."""
    if nodes is None:
        if above > 0:
            raise ValueError(f"nodes: expected [{above}, {bank.shape[1]}] for a part; got None")
        return
    if nodes.ndim != 2 or len(nodes) < above or nodes.shape[1] != bank.shape[1]:
        raise ValueError(
            f"nodes: expected at least [{above}, {bank.shape[1]}]; got {list(nodes.shape)}"
        )
    if nodes.dtype != torch.float64 or nodes.stride(1) != 1 or nodes.device != bank.device:
        raise ValueError(
            f"nodes: expected float64 on {bank.device}, contiguous in a row; "
            f"got {nodes.dtype} on {nodes.device}, strides {nodes.stride()}"
        )


def place(count: int, at: int, of: int, begin: int, server: Server | None) -> tuple[int, int, int]:
    """at, of and begin, checked; `of` is `count` where there are no others."""
    for name, value in (("at", at), ("of", of), ("begin", begin)):
        if int(number(name, value)) != value or value < 0:
            raise ValueError(f"{name}: expected a whole number from 0 on; got {value!r}")
    of = int(of) or count  # K may be a symbol while torch traces: no int is made of it
    if at + count > of:
        raise ValueError(f"of: expected at least {at + count}, the clients so far; got {of}")
    if begin > at or begin % leaf_size(of):
        raise ValueError(
            f"begin: expected a multiple of {leaf_size(of)}, the size of a leaf, up to {at}; "
            f"got {begin}"
        )
    if server is not None and (at + count != of or begin):
        raise ValueError(
            f"server: expected with the last chunk of all; got {begin}..{at + count} of {of}"
        )
    return int(at), of, int(begin)


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
    InOut("nodes", "N S", torch.float64, optional=True, ready=True),
    Number("first", type=bool, passed=False),
    Number("at", type=int, passed=False),
    Number("of", type=int, passed=False),
    Number("begin", type=int, passed=False),
    Made(
        "nodes order",
        check=_order,
        using="client_rows acc nodes first at of begin server",
        passed=False,
    ),
    In("order", "N", torch.int32, public=False, ready=True),
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
    nodes: Tensor | None = None,
    first: bool = True,
    at: int = 0,
    of: int = 0,
    begin: int = 0,
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
    acc          `[S]` float64, the sum; overwritten if `first`, added to otherwise
    of           how many clients the whole sum has, where these are a part of it; 0: these alone.
                 Parts come one after another, and `first` is not looked at
    at           the position of the part's first client among them
    begin        the position of the first client of all parts that share `acc`; where it is not 0,
                 or the parts end early, nodes are left that `summation.join_all` joins with others
    nodes        `[n, S]` float64, what lies above `acc` on the stack of nodes between two parts; at
                 most 12, `order` in `summation.py` says how many. None where there are none
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
