"""What is measured of models: how right they are, how sharp, how far clients agree.

    accuracy     what accuracy means; METRICS, the registry of one's own
    agreement    columns of a round: cosines, conflicts, drift; ROUND_METRICS
    hessian      eigenvalues, trace and spectral density of the Hessian
    sharpness    how far the loss rises nearby

Names are looked up when they are asked for: training reads accuracies and columns of rounds, and
what is measured of finished runs reads what trains.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .accuracy import METRICS, Loss, Metric, find, metric_for
    from .agreement import ROUND_METRICS, SeenRound, measures
    from .hessian import Hessian
    from .sharpness import (
        MeanLosses,
        adaptive_sharpness,
        flatness_distance,
        layer_sensitivity,
        layer_sharpness,
        sam_sharpness,
        surrogate_gap,
    )

_HOME = {
    "METRICS": "accuracy",
    "Loss": "accuracy",
    "Metric": "accuracy",
    "find": "accuracy",
    "metric_for": "accuracy",
    "ROUND_METRICS": "agreement",
    "SeenRound": "agreement",
    "measures": "agreement",
    "Hessian": "hessian",
    "MeanLosses": "sharpness",
    "adaptive_sharpness": "sharpness",
    "flatness_distance": "sharpness",
    "layer_sensitivity": "sharpness",
    "layer_sharpness": "sharpness",
    "sam_sharpness": "sharpness",
    "surrogate_gap": "sharpness",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module 'fedfast.metrics' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_HOME)


__all__ = [
    "METRICS",
    "ROUND_METRICS",
    "Hessian",
    "Loss",
    "MeanLosses",
    "Metric",
    "SeenRound",
    "adaptive_sharpness",
    "find",
    "flatness_distance",
    "layer_sensitivity",
    "layer_sharpness",
    "measures",
    "metric_for",
    "sam_sharpness",
    "surrogate_gap",
]
