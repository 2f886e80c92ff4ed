"""FedAvg-FT: FedAvg, then local fine-tuning; the baseline of personalized papers (FedFSA; FedCR's
repository; without a paper of its own).

    rounds   as FedAvg
    at last  every client of the population takes the final w and freezes all but the last linear
             layer h:   h <- h - eta (grad_h + wd h)   for `epochs` passes over its own samples

The personal models are tested on the clients' own test parts. Client state: its last layer; server
state w; one gradient per step; one model down, one up, nothing for the fine-tuning. Any algorithm
can be given `fine_tune=FineTune(...)` instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .base import ALGORITHMS, Algorithm
from .finetune import FineTune


@ALGORITHMS.register("fedavg-ft")
@dataclass(frozen=True)
class FedAvgFT(Algorithm):
    """FedAvg whose clients fine-tune the final model; see `FineTune` for `epochs` and `layers`."""

    fine_tune: FineTune | None = field(init=False, default_factory=FineTune)
    epochs: int = 10
    layers: str = "last"

    def __post_init__(self) -> None:
        tune = FineTune(self.epochs, self.layers)
        object.__setattr__(self, "fine_tune", tune)
        self.compose()
