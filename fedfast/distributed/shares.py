"""Which part of a cohort each rank trains: runs of whole leaves of about equal work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..kernels.summation import Node, largest_nodes, leaf_size


@dataclass(frozen=True)
class Shares:
    """Runs of leaves, one for each rank, that follow each other.

    clients  in the cohort
    ends     [size + 1], the leaf that each run begins with, and their number
    """

    clients: int
    ends: tuple[int, ...]

    @classmethod
    def of(cls, work: np.ndarray, ranks: int) -> Shares:
        """Cut where the work of clients [C], in processing order, comes nearest to equal parts."""
        size = leaf_size(len(work))
        leaves = np.add.reduceat(work, np.arange(0, len(work), size)) if len(work) else np.zeros(0)
        done = np.concatenate([[0.0], np.cumsum(leaves, dtype=np.float64)])
        middles = (done[1:] + done[:-1]) / 2
        wanted = done[-1] * np.arange(1, ranks) / ranks
        cuts = np.searchsorted(middles, wanted).tolist()
        return cls(len(work), (0, *cuts, len(leaves)))

    @property
    def leaves(self) -> int:
        """Leaves of the cohort's sums."""
        return self.ends[-1]

    def run(self, rank: int) -> tuple[int, int]:
        """[first, last) leaf of a rank."""
        return self.ends[rank], self.ends[rank + 1]

    def nodes(self, rank: int) -> list[Node]:
        """The largest nodes of the sums inside a rank's run."""
        return largest_nodes(*self.run(rank), self.leaves)

    def part(self, rank: int) -> slice:
        """Its positions in the cohort."""
        size, (first, last) = leaf_size(self.clients), self.run(rank)
        return slice(min(first * size, self.clients), min(last * size, self.clients))

    def ranks(self) -> np.ndarray:
        """The rank of each position. [C]"""
        parts = [self.part(rank) for rank in range(len(self.ends) - 1)]
        return np.repeat(np.arange(len(parts)), [p.stop - p.start for p in parts])
