"""What hooks return, checked once a round at most: errors name the class and the hook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from .._messages import unknown
from ._hook_checks import named, returned, wrong_return
from .hooks import Clients, Cohort, Component, Rows, Sum, TrainedLayout

KINDS = ("zeros", "start", "model")


def kept_rows(component: Component) -> Mapping[str, str]:
    """`client_rows` of a component. Raises ValueError for an unknown kind."""
    rows = named(component, "client_rows", component.client_rows())
    for name, kind in rows.items():
        if kind not in KINDS:
            raise unknown(f"{type(component).__name__}.client_rows, {name!r}", str(kind), KINDS)
    return rows


def number_rows(owner: object, found: Rows | None, at: Clients) -> Rows:
    """What `finish` returned: tensors [K, ...]. Raises TypeError/ValueError."""
    numbers = named(owner, "finish", found)
    for name, value in numbers.items():
        label = f"{type(owner).__name__}.finish, {name!r}"
        if not isinstance(value, Tensor):
            raise TypeError(f"{label}: expected a tensor [{len(at)}, ...]; got {value!r:.200}")
        if value.ndim == 0 or len(value) != len(at):
            raise ValueError(f"{label}: expected [{len(at)}, ...]; got {list(value.shape)}")
    return numbers


def row_sums(
    owner: object, found: Sequence[Sum] | None, rows: Iterable[str], cohort: Cohort
) -> Sequence[Sum]:
    """What `sums` returned. Raises TypeError/ValueError."""
    if isinstance(found, Sum):
        found = [found]
    sums = [] if found is None else found
    if not isinstance(sums, Sequence):
        raise wrong_return(owner, "sums", found, "a list of Sum")
    for each in sums:
        returned(owner, "sums", each, Sum, "a list of Sum")
        if each.row not in rows:
            raise unknown(f"{type(owner).__name__}.sums, Sum(row=...)", each.row, rows)
        shape = list(getattr(each.weights, "shape", ()))
        if shape != [len(cohort)]:
            raise ValueError(
                f"{type(owner).__name__}.sums, Sum({each.row!r}): expected weights "
                f"[{len(cohort)}]; got {shape}"
            )
    return sums


def reweighed(
    owner: object, found: object, cohort: Cohort, layout: TrainedLayout
) -> tuple[Tensor, Rows]:
    """What `reweigh` returned: weights [C] or [L, C], numbers. Raises TypeError/ValueError."""
    label = f"{type(owner).__name__}.reweigh"
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Tensor)):
        raise TypeError(f"{label}: expected (weights, numbers by name); got {found!r:.200}")
    clients, shape = len(cohort), list(found[0].shape)
    if shape not in ([clients], [len(layout.names), clients]):
        expected = f"weights [{clients}] or [{len(layout.names)}, {clients}]"
        raise ValueError(f"{label}: expected {expected}; got {shape}")
    return found[0].double(), named(owner, "reweigh", found[1])
