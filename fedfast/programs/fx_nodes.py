"""What the makers of records ask of an fx node: its values, sizes, arguments and parameters."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from torch import fx, nn


class Unsupported(Exception):
    """Why a layer cannot be part of a program."""


Numbers = Mapping[fx.Node, int]
Size = int | Sequence[int]


def source(node: fx.Node) -> object:
    """What a layer with one input is called with."""
    return node.args[0] if node.args else node.kwargs.get("input")


def place(node: fx.Node, numbers: Numbers) -> tuple[str, tuple[int, ...], int]:
    """(name, inputs, output) of a layer with one input."""
    value = source(node)
    if not isinstance(value, fx.Node) or value not in numbers:
        raise Unsupported("its input is not a value of the network")
    return node.name, (numbers[value],), numbers[node]


def size_of(node: object) -> tuple[int, ...]:
    """The shape of a node's value, batch dimension included; of a tuple, its first tensor's."""
    return node.meta.get("shape", ()) if isinstance(node, fx.Node) else ()


def picks(node: object, index: int) -> TypeGuard[fx.Node]:
    """Whether a node is `source[index]` of a tuple: what an LSTM returns, or its states."""
    if not isinstance(node, fx.Node) or node.target is not operator.getitem:
        return False
    whole, at = node.args
    is_tuple = isinstance(whole, fx.Node) and whole.meta.get("type") is tuple
    return is_tuple and bool(at == index)


def lstm_of(states: object) -> fx.Node | None:
    """The LSTM whose hidden states after the last step `[layers, batch, H]` a node is."""
    if picks(states, 0) and picks(returned := states.args[0], 1):
        lstm = returned.args[0]
        return lstm if isinstance(lstm, fx.Node) else None
    return None


def given(node: fx.Node, *names: str) -> dict[str, Any]:
    """The arguments of a call behind its first, by name; `names` in the order of the signature."""
    by_place = dict(zip(names, node.args[1:], strict=False))
    found = by_place | {k: v for k, v in node.kwargs.items() if k != "input"}
    if len(node.args) > 1 + len(names) or not set(found) <= set(names):
        raise Unsupported("arguments that its record does not have")
    return found


def pair(value: Size) -> tuple[int, int]:
    """(vertical, horizontal) of a number or a pair."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def named(module: nn.Module, node: fx.Node, names: Sequence[str]) -> list[str | None]:
    """The module's parameters of these names as the whole model calls them, None for lacking."""
    own = dict(module.named_parameters())
    return [f"{node.target}.{name}" if name in own else None for name in names]


def affine(module: nn.Module, node: fx.Node) -> tuple[str | None, str | None]:
    """Names of weight and bias, None for what the layer does not have."""
    weight, bias = named(module, node, ("weight", "bias"))
    return weight, bias


def weighted(module: nn.Module, node: fx.Node) -> tuple[str, str | None]:
    """As `affine`, of a layer that cannot do without a weight."""
    weight, bias = affine(module, node)
    if weight is None:
        raise Unsupported("its weight is not a parameter of its own")
    return weight, bias
