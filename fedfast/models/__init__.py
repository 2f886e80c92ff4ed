"""The papers' architectures as ordinary modules. All files here are imported: a new one that
registers a model needs no line below."""

from importlib import import_module
from pkgutil import iter_modules

from .conv import cnn, lenet
from .dense import mclr, mlp
from .mobilenet import mobilenetv2
from .registry import MODELS, build
from .resnet import resnet18, resnet18_gn
from .sequence import lstm
from .stochastic import Stochastic, stochastic

for _file in iter_modules(__path__):
    import_module(f".{_file.name}", __name__)

__all__ = [
    "MODELS",
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
