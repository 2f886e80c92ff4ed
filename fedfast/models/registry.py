"""`build`: a model by name, its initial weights a function of the seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

from .._messages import check_options, format_value, unknown
from ..random import check_seed
from ._sizes import check_weights, size
from .conv import cnn, lenet
from .dense import mclr, mlp
from .mobilenet import mobilenetv2
from .resnet import resnet18, resnet18_gn
from .sequence import lstm
from .stochastic import stochastic

_MODELS: dict[str, Callable[..., nn.Module]] = {
    "cnn": cnn,
    "lenet": lenet,
    "lstm": lstm,
    "mclr": mclr,
    "mlp": mlp,
    "mobilenetv2": mobilenetv2,
    "resnet18": resnet18,
    "resnet18-gn": resnet18_gn,
    "stochastic": stochastic,
}
NAMES = tuple(_MODELS)


def build(
    name: str, *, input_shape: Sequence[int], classes: int, seed: int = 0, **options: Any
) -> nn.Module:
    """The model called `name`, on the CPU, with PyTorch's own initialisation drawn from `seed`.

    name         one of `NAMES`; `options` are those of its function
    input_shape  of one sample: (C, H, W) for the convolutional ones, (T,) tokens for "lstm"
    The global random state is neither used nor changed. Raises ValueError naming what does not fit.
    """
    if not isinstance(name, str) or name not in _MODELS:
        raise unknown("model", name, _MODELS)
    if not isinstance(input_shape, Sequence) or isinstance(input_shape, str):
        raise TypeError(
            f"input_shape: expected a sequence of integers; got {format_value(input_shape)}"
        )
    if not input_shape or not all(isinstance(side, int) and side >= 1 for side in input_shape):
        raise ValueError(f"input_shape: expected sizes >= 1; got {tuple(input_shape)}")
    shape = tuple(int(side) for side in input_shape)
    size("input_shape", prod(shape))
    classes = size("classes", int(classes) if isinstance(classes, np.integer) else classes)
    check_weights("classes", classes, 1)
    if classes < 2:
        raise ValueError(f"classes: expected at least 2; got {format_value(classes)}")
    check_seed(seed)
    if name != "stochastic":  # which asks the function of its body
        check_options(name, _MODELS[name], options, own=("input_shape", "classes"))
    # Only the CPU's generator is seeded: torch.manual_seed would reach the GPUs' as well.
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return _MODELS[name](shape, classes, **options)
