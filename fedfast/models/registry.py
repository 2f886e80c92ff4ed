"""`build`: a model by name, its initial weights a function of the seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import torch
from torch import nn

from .._messages import check_options, format_value
from .._renamed_modules import names_of
from ..random import check_seed
from ..registry import Registry, accepted
from ._sizes import check_weights, size


def _makes(thing: object) -> bool:
    """Whether a call makes a model: one of a module would compute."""
    if isinstance(thing, type):
        return issubclass(thing, nn.Module)
    return callable(thing) and not isinstance(thing, nn.Module)


MODELS = Registry[Callable[..., nn.Module]](
    "model", "a function or class (input_shape, classes, **options) -> nn.Module", _makes
)
__getattr__ = names_of(__name__)


def build(
    name: str, *, input_shape: Sequence[int], classes: int, seed: int = 0, **options: object
) -> nn.Module:
    """The model called `name`, on the CPU, with PyTorch's own initialisation drawn from `seed`.

    name         one of `MODELS`, or "package.module:Name": a function or class that returns an
                 `nn.Module`. It is given `input_shape` and `classes` (one of your own `seed`
                 too) where it has parameters of these names, and `options`
    input_shape  of one sample: (C, H, W) for the convolutional ones, (T,) tokens for "lstm"
    The global random state is neither used nor changed. Raises ValueError naming what does not fit.
    """
    make = MODELS.find(name)
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
    if classes < 2 and name in MODELS:  # a user's own may have one output, for a loss of its own
        raise ValueError(f"classes: expected at least 2; got {format_value(classes)}")
    check_seed(seed)
    given = {"input_shape": shape, "classes": classes}
    if name not in MODELS:  # ours draw from the generator, and hand options on to others of ours
        given["seed"] = seed
    check_options(name, make, options, own=tuple(given))
    own = accepted(make, given)
    # Only the CPU's generator is seeded: torch.manual_seed would reach the GPUs' as well.
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        made = make(**own, **options)
    if not isinstance(made, nn.Module):
        raise TypeError(f"model {name}: expected an nn.Module; got {format_value(made)}")
    return made
