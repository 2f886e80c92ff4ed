"""What a saved simulation holds: taken from one, checked against another, put into it.

Nothing of a simulation changes before everything has been checked; then it changes by one
assignment, as after a round.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..build import Components
from ..clients import Kept
from ..history import READ, Row, Rows, cells, columns_of
from ..row_blocks import ROWS, Damaged, Part
from ..state import Committed, Tuned

PERSONAL = ("personal_accuracy", "personal_pooled", "personal_std", "personal_worst")
LOCAL = ("local_accuracy", "pooled_accuracy", "local_std", "local_worst")
FIGURES = ("accuracy", "loss", *PERSONAL, *LOCAL)


@dataclass(frozen=True)
class Contents:
    """A state between two rounds, on the CPU.

    identity  see `identity.identity`; None where the file is of a format that had none
    span      (rounds, eval_every, eval_last) of the run; None likewise
    tensors   "server NAME", "clients ids", "clients value NAME", "tuned rows", "tuned ids"
    streamed  "clients row NAME", which no memory may hold at once
    run       what format 1 records of its run
    """

    identity: dict[str, object] | None
    span: tuple[int, int, int] | None
    rows: Rows
    stopped: bool
    scalars: dict[str, float]
    tensors: dict[str, Tensor]
    streamed: dict[str, Part] = field(default_factory=dict)
    run: dict[str, str] | None = None

    def parts(self) -> dict[str, Part]:
        """All of them."""
        return {**self.tensors, **self.streamed}


def taken(parts: Components, identity: dict[str, object], kept: Kept) -> Contents:
    """The state after the last complete round, with what clients keep."""
    state, (ids, rows, values) = parts.engine.committed, kept
    found = named(state.server.tensors(), ids, {}, values)
    if state.tuned is not None:
        slot = torch.from_numpy(state.tuned.slot)
        tuned = (slot >= 0).nonzero()[:, 0]
        found |= {"tuned ids": tuned, "tuned rows": state.tuned.rows[slot[tuned]]}
    tensors = {name: t.detach().cpu() for name, t in found.items()}
    scalars = dict(state.server.scalars)
    given = parts.design.options
    span = parts.design.rounds, given.eval_every, given.eval_last
    streamed = {f"{ROWS}{name}": part for name, part in rows.items()}
    return Contents(identity, span, state.rows, state.stopped, scalars, tensors, streamed)


def named(
    server: Mapping[str, Tensor],
    ids: Tensor,
    rows: Mapping[str, Tensor],
    values: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """The tensors of the server, and those of the clients `ids`, as a file names them."""
    found = {f"server {name}": t for name, t in server.items()} | {"clients ids": ids}
    found |= {f"{ROWS}{name}": t for name, t in rows.items()}
    return found | {f"clients value {name}": t for name, t in values.items()}


def history_part(rows: Rows) -> Tensor:
    """The rows as bytes of JSON; numbers that JSON lacks as text."""
    names = columns_of(rows)
    table = [
        [repr(v) if isinstance(v, float) and not math.isfinite(v) else v for v in cells(row, names)]
        for row in rows
    ]
    text = json.dumps([names, table], allow_nan=False).encode()
    return torch.frombuffer(bytearray(text), dtype=torch.uint8)


def history_of(part: Tensor) -> Rows:
    """The rows that `history_part` wrote. Raises Damaged."""
    try:
        names, table = json.loads(bytes(part.numpy()))
        made = [dict(zip(names, row, strict=True)) for row in table]
        # Columns that came later are left at what they are where nothing is known.
        return Rows(_row({n: _cell(n, v) for n, v in row.items()}) for row in made)
    except (ValueError, TypeError, KeyError) as error:
        raise Damaged(f"not rows of a history: {error}") from error


def _row(values: Mapping[str, Any]) -> Row:
    """A row; what is no column of every history is of metrics."""
    measured = {name: value for name, value in values.items() if name not in READ}
    return Row(**{n: v for n, v in values.items() if n in READ}, measured=measured)


def _cell(name: str, value: object) -> Any:
    """A value of its column's type. Raises ValueError."""
    kind = READ.get(name, float)
    if kind is float and (isinstance(value, float) or value in ("nan", "inf", "-inf")):
        return float(value)
    if kind is float or type(value) is not kind:
        raise ValueError(f"{name}: expected {kind.__name__}, found {value!r}")
    return value


def checked(parts: Components, found: Contents, all_figures: bool = False) -> Committed:
    """The state to commit; nothing has changed yet. Raises Damaged for what it cannot be."""
    _check_rows(parts, found)
    expected = _expected(parts, found)
    all_parts = found.parts()
    names = set(all_parts) ^ set(expected)
    if names:
        raise Damaged(f"expected the parts {sorted(expected)}; differs in {sorted(names)}")
    for name, (shape, dtype) in expected.items():
        t = all_parts[name]
        if tuple(t.shape) != shape or t.dtype != dtype:
            raise Damaged(
                f"{name}: expected {dtype} {list(shape)}; found {t.dtype} {list(t.shape)}"
            )
        if name.startswith("server") and not bool(found.tensors[name].isfinite().all()):
            raise Damaged(f"{name}: expected finite numbers")
    for name in ("clients ids", "tuned ids"):
        _check_ids(name, found.tensors.get(name), parts.engine.data.num_clients)
    _check_scalars(parts, found.scalars)
    return _taken_on(parts, _made(parts, found), found, all_figures)


def _expected(parts: Components, found: Contents) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """name -> (shape, dtype)"""
    state, dtype, int64 = parts.engine.committed, parts.engine.layout.dtype, torch.int64
    many, made = _length(found, "clients ids"), {}
    none, clients = torch.empty(0, dtype=int64), state.clients
    rows = {name: t[None] for name, t in clients.row_kinds().items()}
    for name, t in named(state.server.tensors(), none, rows, clients.values_of(none)).items():
        shape = (many, *t.shape[1:]) if name.startswith("clients") else tuple(t.shape)
        made[name] = shape, t.dtype
    if "tuned ids" in found.tensors:
        if parts.engine.algorithm.fine_tune is None:
            raise Damaged("tuned models of an algorithm that tunes none")
        a, b = parts.personal.span
        many = _length(found, "tuned ids")
        made |= {"tuned ids": ((many,), int64), "tuned rows": ((many, b - a), dtype)}
    return made


def _length(found: Contents, name: str) -> int:
    t = found.tensors.get(name)
    return len(t) if t is not None and t.ndim else 0


def _check_ids(name: str, ids: Tensor | None, population: int) -> None:
    """Each client once, by number."""
    if ids is None or not len(ids):
        return
    if int(ids[0]) < 0 or int(ids[-1]) >= population or bool((ids[1:] <= ids[:-1]).any()):
        raise Damaged(f"{name}: expected different clients of 0..{population - 1}, in order")


def _check_scalars(parts: Components, scalars: Mapping[str, object]) -> None:
    names = set(parts.engine.state.scalars)
    if not isinstance(scalars, dict) or set(scalars) != names:
        raise Damaged(f"scalars: expected {sorted(names)}; found {scalars}")
    for name, value in scalars.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise Damaged(f"scalars: expected a finite number {name}; found {value!r}")


def _check_rows(parts: Components, found: Contents) -> None:
    rows, done = found.rows, len(found.rows)
    if [row.round for row in rows] != list(range(1, done + 1)):
        raise Damaged(f"history: expected rounds 1..{done}, each once")
    ended = bool(rows) and rows[-1].status != "ok"
    if not isinstance(found.stopped, bool) or (found.stopped and not ended):
        raise Damaged(f"stopped: {found.stopped!r} contradicts the history")
    if done > parts.design.rounds:
        raise Damaged(
            f"rounds: it has done {done}; expected at least as many, got {parts.design.rounds}"
        )
    for t, row in enumerate(rows):
        rate = parts.design.lr(t)
        if row.lr != rate:
            raise Damaged(f"lr: expected {rate} in round {t + 1}, found {row.lr}")


def _made(parts: Components, found: Contents) -> Committed:
    """The committed value; written to the server state that nobody refers to."""
    engine, device, tensors = parts.engine, parts.engine.state.row.device, found.tensors
    server = engine.next
    for name, t in server.tensors().items():
        t.copy_(tensors[f"server {name}"])
    server.scalars = dict(found.scalars)
    rows = {n.removeprefix(ROWS): t for n, t in found.parts().items() if n.startswith(ROWS)}
    lead = "clients value "
    values = {n.removeprefix(lead): t for n, t in tensors.items() if n.startswith(lead)}
    clients = engine.clients.holding(tensors["clients ids"], rows, values)
    made = Committed(server, clients, None, found.stopped, found.rows)
    if "tuned ids" in tensors:
        slot = torch.full((engine.data.num_clients,), -1)
        slot[tensors["tuned ids"]] = torch.arange(len(tensors["tuned ids"]))
        made = replace(made, tuned=Tuned(tensors["tuned rows"].to(device), slot.numpy()))
    return made


def _taken_on(parts: Components, state: Committed, found: Contents, all_figures: bool) -> Committed:
    """The state as this run would have it, whose last round may be another.

    Figures that only an earlier end has brought are gone, and so are models that were tuned after
    a round that is not the last any more.
    """
    done = len(state.rows)
    if state.stopped or not done:
        return state
    if done == parts.design.rounds:
        _check_last(parts, state)
        return state
    late = {t for t in range(done) if not all_figures and _was_late(parts, t, found)}
    blank: dict[str, Any] = dict.fromkeys(FIGURES, math.nan)
    rows = [replace(r, **blank) if t in late else r for t, r in enumerate(state.rows)]
    if state.tuned is not None and done - 1 not in late:
        untuned: dict[str, Any] = dict.fromkeys(PERSONAL, math.nan)
        if parts.engine.algorithm.personal is not None and parts.personal.test is not None:
            untuned = parts.personal.scores(replace(state, tuned=None)).columns()
        rows[-1] = replace(rows[-1], **untuned)
    return replace(state, rows=Rows(rows), tuned=None)


def _was_late(parts: Components, t: int, found: Contents) -> bool:
    """Whether round `t` was evaluated only because an earlier end was near."""
    if found.span is None:
        return False
    rounds, every, last = found.span
    only_late = (t + 1) % every != 0 and t + last >= rounds
    return only_late and not parts.design.evaluates(t)


def _check_last(parts: Components, state: Committed) -> None:
    """The last round is complete only if it was the last when it was done."""
    lacks_models = parts.engine.algorithm.fine_tune is not None and state.tuned is None
    lacks_test = parts.design.test is not None and math.isnan(state.rows[-1].accuracy)
    if state.rows and (lacks_models or lacks_test):
        raise Damaged(
            f"rounds: it has done {len(state.rows)} of a longer run, which did not end there; "
            f"expected more rounds than that, got {parts.design.rounds}"
        )
