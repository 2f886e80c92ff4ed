"""What a partition looks like, in a few lines."""

from __future__ import annotations

import numpy as np

from .federated import FederatedData


def describe(data: FederatedData) -> str:
    """Sizes, classes per client and clients per class, one line each.

    A client has a class if it has a sample of it; clients without samples are left out of the last
    two lines.
    """
    counts = data.label_counts()
    classes = (counts[data.sizes > 0] > 0).sum(axis=1)
    holders = (counts > 0).sum(axis=0)
    lines = [
        f"{data.num_clients:,} clients, {int(data.sizes.sum()):,} samples, {data.classes} classes",
        f"samples per client  {_spread(data.sizes)}",
        f"classes per client  {_spread(classes)}",
        f"clients per class   {_spread(holders)}",
    ]
    empty = int((data.sizes == 0).sum())
    return "\n".join(lines + ([f"without samples     {empty} clients"] if empty else []))


def _spread(values: np.ndarray) -> str:
    return (
        f"{values.min():,} to {values.max():,}, mean {values.mean():,.2f}, "
        f"median {np.median(values):,g}"
    )
