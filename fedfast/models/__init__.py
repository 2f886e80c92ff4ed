"""The papers' architectures as ordinary modules."""

from .conv import cnn, lenet
from .dense import mclr, mlp
from .registry import build
from .resnet import resnet18_gn
from .stochastic import Stochastic, stochastic

__all__ = ["Stochastic", "build", "cnn", "lenet", "mclr", "mlp", "resnet18_gn", "stochastic"]
