"""The papers' architectures as ordinary modules."""

from .build import build
from .conv import cnn, lenet
from .dense import mclr, mlp

__all__ = ["build", "cnn", "lenet", "mclr", "mlp"]
