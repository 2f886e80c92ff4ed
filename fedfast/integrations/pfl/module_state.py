"""What a module is besides the values of its parameters: what a cohort has been made for.

A loss or a forward pass may read attributes and buffers; callbacks and algorithms may change them,
freeze parameters, or register layers between two rounds.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

VALUES = bool, int, float, str, type(None), tuple
State = dict[tuple[str, str], object]  # by name of a layer and name of what it has


def module_state(module: nn.Module) -> State:
    """Buffers, attributes (numbers, strings, tensors; of lists and dicts the length) and which
    parameters are trained, of all layers. Modes (`train`, `eval`) are not among them.
    """
    state: State = {}
    for path, layer in module.named_modules():
        for name, value in (vars(layer) | layer._buffers).items():
            if isinstance(value, Tensor):
                state[path, name] = value.detach().clone()
            elif isinstance(value, list | dict | set):
                state[path, name] = len(value)
            elif isinstance(value, VALUES) and name != "training":
                state[path, name] = value
        for name, parameter in layer._parameters.items():
            state[path, name] = parameter is not None and parameter.requires_grad
    return state


def alike(a: object, b: object) -> bool:
    """Whether two values, or two dictionaries of them, are equal; tensors and arrays too."""
    if a is b:
        return True
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(alike(a[name], b[name]) for name in a)
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return type(a) is type(b) and np.array_equal(a, b)  # type: ignore[arg-type]
    return type(a) is type(b) and bool(a == b)


def changed(before: State, module: nn.Module) -> str:
    """The first of what differs from a former state; "" if nothing does."""
    now = module_state(module)
    for key in now | before:
        if key not in now or key not in before or not alike(before[key], now[key]):
            return ".".join(filter(None, key))
    return ""


@contextmanager
def as_before(module: nn.Module) -> Generator[None]:
    """Buffers, attributes that are values, modes and torch's generator are restored at the end."""
    before, random = module_state(module), torch.get_rng_state()
    modes = [(layer, layer.training) for layer in module.modules()]
    try:
        yield
    finally:
        torch.set_rng_state(random)
        for path, layer in module.named_modules():
            _restore(path, layer, before)
        for layer, mode in modes:
            layer.training = mode


@torch.no_grad()
def _restore(path: str, layer: nn.Module, before: State) -> None:
    for name, value in (vars(layer) | layer._buffers).items():
        if (path, name) not in before:
            if isinstance(value, (*VALUES, Tensor)) and name != "training":
                delattr(layer, name)
            continue
        former = before[path, name]
        if isinstance(value, Tensor) and isinstance(former, Tensor):
            value.copy_(former)
        elif isinstance(value, VALUES) and not alike(value, former):
            setattr(layer, name, former)
