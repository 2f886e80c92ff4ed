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
    "Metric",
    "find",
    "known",
    "metric_for",
    "no_accuracy",
]
