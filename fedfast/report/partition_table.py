"""Samples per class of the first clients, as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..data import FederatedData
from ..data.describe import effective_classes

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = 10  # classes that have a column each; of more, each client's largest are listed
LISTED = 5


def table(clients: FederatedData, first: int = 10) -> Table:
    """One row per client: samples, effective classes, own test samples, counts per class.

    Up to ten classes have a column each; of more the number and the largest are listed.
    """
    from rich import box
    from rich.table import Table

    counts = clients.counts(first)
    wide = counts.shape[1] > COLUMNS
    heads = ["client", "samples", "eff.", *(["test"] if clients.test else [])]
    heads += ["classes", "largest"] if wide else map(str, range(counts.shape[1]))
    caption = "eff.: effective classes, exp of the entropy"
    made = Table(box=box.SIMPLE_HEAD, padding=0, caption=caption)
    for head in heads:
        made.add_column(head, justify="left" if head == "largest" else "right", overflow="fold")
    for i, (own, effective) in enumerate(zip(counts, effective_classes(counts), strict=True)):
        cells = [str(i), str(own.sum()), f"{effective:.2f}"]
        cells += [str(len(clients.test[i]))] if clients.test else []
        made.add_row(
            *cells,
            *([str((own > 0).sum()), _largest(own)] if wide else [str(n or "·") for n in own]),
        )
    return made


def _largest(counts: np.ndarray) -> str:
    """`17: 120, 3: 88, … 4 more`: the largest classes, those of equal counts by their numbers."""
    order = np.argsort(-counts, kind="stable")[: (counts > 0).sum()]
    named = ", ".join(f"{c}: {counts[c]}" for c in order[:LISTED])
    return f"{named}, … {len(order) - LISTED} more" if len(order) > LISTED else named
