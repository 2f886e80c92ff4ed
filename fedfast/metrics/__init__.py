"""What is measured of models: how right they are, how sharp, how far clients agree."""

from .accuracy import (
    CLASSES,
    ELEMENTWISE,
    METRICS,
    MULTICLASS,
    SHARES,
    SIGNS,
    Correct,
    Custom,
    Loss,
    Metric,
    find,
    known,
    metric_for,
    no_accuracy,
)
from .hessian import Hessian
from .loss_weights import ignored, weight_of
from .sharpness import (
    MeanLosses,
    adaptive_sharpness,
    flatness_distance,
    layer_sensitivity,
    layer_sharpness,
    sam_sharpness,
    surrogate_gap,
)

__all__ = [
    "CLASSES",
    "ELEMENTWISE",
    "METRICS",
    "MULTICLASS",
    "SHARES",
    "SIGNS",
    "Correct",
    "Custom",
    "Hessian",
    "Loss",
    "MeanLosses",
    "Metric",
    "adaptive_sharpness",
    "find",
    "flatness_distance",
    "ignored",
    "known",
    "layer_sensitivity",
    "layer_sharpness",
    "metric_for",
    "no_accuracy",
    "sam_sharpness",
    "surrogate_gap",
    "weight_of",
]
