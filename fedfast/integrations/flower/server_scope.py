"""Which algorithms have a server that works from the models of its clients alone."""

from __future__ import annotations

import numpy as np
import torch

from ..._messages import format_value
from ...algorithms import Algorithm, Cohort, TrainedLayout


def check_alone(algorithm: Algorithm, layout: TrainedLayout) -> None:
    """Raise ValueError where models alone do not make the server's next state."""
    reason = _reason(algorithm, layout)
    if reason:
        name = algorithm.name or format_value(algorithm)
        raise ValueError(
            "algorithm: expected one whose server sends a model and needs its clients' models "
            f"alone; {name} {reason}"
        )


def _reason(algorithm: Algorithm, layout: TrainedLayout) -> str:
    down, up = algorithm.traffic()
    if (down, up) != (1, 1):
        return f"sends {down} models down and {up} up"
    if algorithm.server_values(layout):
        return f"keeps {', '.join(algorithm.server_values(layout))} at the server too"
    summed = [rule.of for rule in algorithm.sums(_anybody()) if rule.of is not None]
    return f"sums {summed[0]} of the clients" if summed else ""


def _anybody() -> Cohort:
    """A cohort of one, to ask for sums."""
    one = torch.ones(1, dtype=torch.float64)
    return Cohort(0, 1.0, np.zeros(1, np.int64), one, one, one, one, 1, 1, 0, "auto")
