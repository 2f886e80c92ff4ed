"""Which layers a program can have: an fx node's record, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from inspect import signature

from torch import fx, nn

from .elementwise import Activation
from .fx_functions import ACTIVATIONS, LAYERS
from .fx_modules import MODULES
from .fx_nodes import Numbers, Unsupported, given, place
from .records import Record


def record_of(root: nn.Module, node: fx.Node, numbers: Numbers) -> Record:
    """The record of one node of `root`'s graph; raises Unsupported with the reason."""
    if node.op == "get_attr":
        raise Unsupported("it reads a tensor of the module directly")
    module = root.get_submodule(str(node.target)) if node.op == "call_module" else None
    called = node.target if module is None else type(module)
    if called in ACTIVATIONS:
        return Activation(*place(node, numbers), kind=ACTIVATIONS[called])
    if called in LAYERS:
        return LAYERS[called](node, numbers, **_options(LAYERS[called], node, module))
    if module is not None and type(module) in MODULES:
        return _with_frozen(MODULES[type(module)](module, node, numbers), module, node)
    name = called if isinstance(called, str) else getattr(called, "__name__", str(called))
    raise Unsupported(f"{name} has no layer record")


def _with_frozen(record: Record, module: nn.Module, node: fx.Node) -> Record:
    named = module.named_parameters()
    frozen = frozenset(f"{node.target}.{name}" for name, p in named if not p.requires_grad)
    return replace(record, frozen=frozen) if frozen else record


def _options(
    maker: Callable[..., Record], node: fx.Node, module: nn.Module | None
) -> dict[str, object]:
    """What `maker` asks for, from the arguments of a call or the attributes of a module."""
    _, _, *names = signature(maker).parameters
    if module is not None:
        return {name: getattr(module, name) for name in names if hasattr(module, name)}
    return given(node, *names) if names else {}
