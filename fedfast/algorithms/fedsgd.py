"""FedSGD. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017: one full local gradient per client and round, one server step.

    client   g_k = gradient of the mean loss over all its n_k samples, at w
    server   "mean"  w <- w - eta sum_k (n_k / n) g_k      full-batch descent on the mean loss
             "sum"   w <- w - eta sum_k n_k g_k            ... on the summed loss

With everybody taking part, "mean" is a centralized step on the mean loss and "sum" one on the
summed loss. `rule="weighted-sum"` weighs the summed-loss gradients by n_k / n again, which is
neither: about 1 / N of the centralized step (a mistake met in the literature, kept to show it).
Client state none; server state w; one gradient per round; one model down, one up.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._parameter_checks import check_word
from .base import ALGORITHMS, Algorithm
from .hooks import Clients, Cohort, Rows

RULES = ("mean", "sum", "weighted-sum")


@ALGORITHMS.register("fedsgd")
@dataclass(frozen=True)
class FedSGD(Algorithm):
    """One gradient on all local data; needs `local_epochs=1` and `batch_size=None`."""

    rule: str = "mean"

    def __post_init__(self) -> None:
        check_word("rule", self.rule, RULES)
        super().__post_init__()
        if self.rule != "mean" and not self.drift.plain:
            drift = self.drift.name
            raise ValueError(f"fedsgd: {drift} needs a mean of the clients; rule is {self.rule!r}")

    def check_run(self, local_epochs: int, batch_size: int | None) -> None:
        """One local step on all data, by definition."""
        if batch_size is not None:
            raise ValueError(
                f"batch_size: fedsgd takes all local data at once, None; got {batch_size}"
            )
        if local_epochs != 1:
            raise ValueError(f"local_epochs: fedsgd makes one local step, 1; got {local_epochs}")

    def rate(self, at: Clients) -> float | Tensor:
        """`eta`, or `eta n_k` for a summed loss: n_k times the move of a mean loss would be n_k
        times its rounding, as large as the move itself on 48,000 samples in float32."""
        rate = super().rate(at)
        return rate if self.rule == "mean" else rate * at.sizes

    def lr_total(self, cohort: Cohort, values: Rows) -> Tensor:
        """The same, over the one step."""
        return super().lr_total(cohort, values) * (1.0 if self.rule == "mean" else cohort.sizes)

    def weights(self, sizes: Tensor, by_samples: bool) -> Tensor:
        """The factor of each client's move, `-eta g_k` or `-eta n_k g_k`."""
        mean = sizes / sizes.sum()
        return torch.ones_like(sizes) if self.rule == "sum" else mean
