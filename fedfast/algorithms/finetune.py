"""Fine-tuning: what clients do with the final global model, each for itself. A component of any
algorithm: `FedSAM(rho=0.1, fine_tune=FineTune(epochs=10))`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..registry import class_registry
from ._hook_checks import Hooked, base
from ._parameter_checks import check_count, check_word
from .hooks import TrainedLayout

FINE_TUNINGS = class_registry("fine-tuning", "FineTune", lambda: FineTune)


@FINE_TUNINGS.register("fine-tune")
@base
@dataclass(frozen=True)
class FineTune(Hooked):
    """`epochs` of plain SGD from the final model, at the last round's learning rate.

    epochs  passes over a client's own samples (FedFSA, FedCR's repository: 10)
    layers  "last": only the last Linear moves, everything else is frozen, running statistics too;
            "all": the whole model
    The loss, weight decay and clipping are the run's; nothing is sent.
    """

    epochs: int = 10
    layers: str = "last"

    name: ClassVar[str] = "fine-tune"

    def __post_init__(self) -> None:
        check_count("epochs", self.epochs, 1)
        check_word("layers", self.layers, ("last", "all"))

    def span(self, layout: TrainedLayout) -> tuple[int, int]:
        """What moves, `row[a:b]`. Raises ValueError for a model without a last Linear."""
        if self.layers == "all":
            return 0, layout.trained
        if layout.head[1] == 0:
            raise ValueError(
                "layers: expected a model whose last Linear has trained tensors of its own, to "
                "tune it alone; this one has none, layers='all' tunes the whole model"
            )
        return layout.head
