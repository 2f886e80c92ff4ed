"""How far the loss of K models rises nearby, and how far clients are from the global model."""

from .distances import flatness_distance, layer_sensitivity
from .mean_losses import MeanLosses
from .rises import adaptive_sharpness, layer_sharpness, sam_sharpness, surrogate_gap

__all__ = [
    "MeanLosses",
    "adaptive_sharpness",
    "flatness_distance",
    "layer_sensitivity",
    "layer_sharpness",
    "sam_sharpness",
    "surrogate_gap",
]
