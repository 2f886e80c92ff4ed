"""How windows lie on images: values that the operations on images and all backends share."""

from __future__ import annotations

from dataclasses import dataclass

Pair = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """How a window moves: pairs for height and width, and groups of channels."""

    stride: Pair
    padding: Pair
    dilation: Pair = (1, 1)
    groups: int = 1


@dataclass(frozen=True)
class Windows:
    """Windows side by side over the results of a convolution, for their largest elements."""

    planes: Pair  # sides of the results, before they are pooled
    kernel: Pair
