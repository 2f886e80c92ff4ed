"""Slices of the loss around and between models, of one or two dimensions.

plane = fedfast.landscape.random_plane(layout, row, dimensions=2, seed=0)
losses = fedfast.landscape.ModelLosses(module, layout, samples)
surface = fedfast.landscape.surface(plane, losses, grid=51, reach=1.0)
"""

from .directions import filter_normalised, line_between, plane_through, random_plane
from .losses import ModelLosses
from .slices import Slice
from .surface import Surface, surface

__all__ = [
    "ModelLosses",
    "Slice",
    "Surface",
    "filter_normalised",
    "line_between",
    "plane_through",
    "random_plane",
    "surface",
]
