"""Models of linear layers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from math import prod

from torch import nn

from ._sizes import check_weights, sizes
from .registry import MODELS


@MODELS.register("mlp")
def mlp(input_shape: Sequence[int], classes: int, hidden: Sequence[int] = (200,)) -> nn.Sequential:
    """Multilayer perceptron with ReLU: inputs `[B, *input_shape]` -> logits `[B, classes]`.

    hidden: widths of the hidden layers; (200,) is FedAvg's net, (200, 200) its "2NN", FedDyn's too.
    """
    layers = OrderedDict[str, nn.Module](flatten=nn.Flatten())
    layers.update(dense((prod(input_shape), *sizes("hidden", hidden), classes)))
    return nn.Sequential(layers)


@MODELS.register("mclr")
def mclr(input_shape: Sequence[int], classes: int) -> nn.Sequential:
    """Multinomial logistic regression (FedProx): inputs `[B, *input_shape]` -> `[B, classes]`."""
    return mlp(input_shape, classes, hidden=())


def dense(widths: Sequence[int]) -> OrderedDict[str, nn.Module]:
    """Linear layers fc1, fc2, ... of these widths with ReLU between them, none after the last."""
    layers = OrderedDict[str, nn.Module]()
    for i in range(1, len(widths)):
        check_weights("hidden", widths[i], widths[i - 1])
        if i > 1:
            layers[f"relu_fc{i - 1}"] = nn.ReLU()
        layers[f"fc{i}"] = nn.Linear(widths[i - 1], widths[i])
    return layers
