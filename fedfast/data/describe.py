"""What a partition looks like, in a few lines."""

from __future__ import annotations

import numpy as np

from .federated import FederatedData


def describe(data: FederatedData) -> str:
    """Sizes, classes per client and clients per class, one line each.

    A client has a class if it has a sample of it; clients without samples are left out of all lines
    but the first two and the last, which counts them.
    """
    if not isinstance(data, FederatedData):
        raise TypeError(f"data: expected FederatedData; got {type(data).__name__}")
    some, holders = data.sizes > 0, np.zeros(data.classes, dtype=np.int64)
    classes, effective = np.zeros(some.size, dtype=np.int64), np.zeros(some.size)
    for at, counts in data.counted():  # there may be millions of clients
        has = counts > 0
        holders += has.sum(axis=0)
        classes[at], effective[at] = has.sum(axis=1), effective_classes(counts)
    lines = [
        f"{data.num_clients:,} clients, {int(data.sizes.sum()):,} samples, {data.classes} classes",
        f"samples per client  {_spread(data.sizes)}",
        f"classes per client  {_spread(classes[some])}",
        f"effective classes   {_spread(effective[some])}",
        f"clients per class   {_spread(holders)}",
    ]
    empty = int((data.sizes == 0).sum())
    return "\n".join(lines + ([f"without samples     {empty} clients"] if empty else []))


def effective_classes(counts: np.ndarray) -> np.ndarray:
    """exp of the entropy of each client's classes: c where c classes have equal shares. [N]

    counts  [N, classes]; a client without samples has 0
    """
    total = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(1, total)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.where(total[:, 0] > 0, np.exp(-(shares * logs).sum(axis=1)), 0.0)


def _spread(values: np.ndarray) -> str:
    whole, middle = (",", ",g") if values.dtype.kind == "i" else (".2f", ".2f")
    return (
        f"{values.min():{whole}} to {values.max():{whole}}, mean {values.mean():,.2f}, "
        f"median {np.median(values):{middle}}"
    )
