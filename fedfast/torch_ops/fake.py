"""The declared checks of an operation on tensors without memory, for `torch.compile` and "meta".

They are generated from the same declaration as the public function, and end where that would call
an implementation: what is returned has its shape, dtype, strides and device, and a wrong argument
is refused with the same words. Tables that are kept from call to call (coefficients, the row as one
segment, the order of a sum) are left alone: what is made while torch traces must not outlive it,
and K may be a symbol there. How many nodes a part of a sum needs is checked when it runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from torch import Tensor

from ..kernels import Segments, Server, generate
from ..kernels._args import Coefficient, chosen, per_client, rows, within
from ..kernels._scalars import number
from ..kernels.aggregate import check_nodes, place
from ..kernels.declaration import Operation
from ..kernels.registry import BACKENDS

_ANY = Segments.of([0], [0])


def fake(operation: Operation, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`function` without its implementations."""
    return generate.public(operation, function, _INSTEAD | {"_implementations": _NOTHING})


def _per_client(name: str, value: Coefficient, bank: Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return per_client(name, value, bank)
    number(name, value)
    return bank.new_empty(bank.shape[0])


def _as_terms(
    pairs: Sequence[tuple[Tensor, Coefficient]], bank: Tensor
) -> list[tuple[Tensor, Tensor]]:
    return [
        (rows(f"terms[{i}]", t, bank), _per_client(f"terms[{i}] coefficient", c, bank))
        for i, (t, c) in enumerate(pairs)
    ]


def _within(segments: Segments | None, bank: Tensor) -> Segments:
    return _ANY if segments is None else within(segments, bank)


def _check_nodes_order(
    bank: Tensor,
    acc: Tensor,
    nodes: Tensor | None,
    first: bool,
    at: int,
    of: int,
    begin: int,
    server: Server | None,
) -> tuple[Tensor | None, None]:
    place(bank.shape[0], at, of, begin, server)
    check_nodes(nodes, bank, 0)
    return nodes, None


def _choose(backend: str, like: Tensor) -> str | None:
    return chosen("backend", backend, BACKENDS)


def _nothing(*args: object) -> None:
    """In the place of an implementation."""


_NOTHING: defaultdict[str, Callable[..., None]] = defaultdict(lambda: _nothing)
_INSTEAD: dict[str, object] = {
    f.__name__: f for f in (_per_client, _as_terms, _within, _check_nodes_order, _choose)
}
