"""The papers' architectures as ordinary modules."""

from .conv import cnn, lenet
from .dense import mclr, mlp
from .mobilenet import mobilenetv2
from .registry import build
from .resnet import resnet18, resnet18_gn
from .sequence import lstm
from .stochastic import Stochastic, stochastic

__all__ = [
    "Stochastic",
    "build",
    "cnn",
    "lenet",
    "lstm",
    "mclr",
    "mlp",
    "mobilenetv2",
    "resnet18",
    "resnet18_gn",
    "stochastic",
]
