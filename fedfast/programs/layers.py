"""Which layers a program can have: an fx node's record, or the reason why there is none."""

from __future__ import annotations

from torch import fx, nn

from .elementwise import Activation
from .fx_functions import ACTIVATIONS as CALLED
from .fx_functions import CALLS
from .fx_modules import ACTIVATIONS, MODULES
from .fx_nodes import Numbers, Unsupported, place
from .records import Record


def record_of(graph: fx.GraphModule, node: fx.Node, numbers: Numbers) -> Record:
    """The record of one node; raises Unsupported with the reason."""
    if node.op == "get_attr":
        raise Unsupported("it reads a tensor of the module directly")
    if node.op == "call_module":
        return _of_module(graph.get_submodule(str(node.target)), node, numbers)
    return _of_call(node.target, node, numbers)


def _of_module(module: nn.Module, node: fx.Node, numbers: Numbers) -> Record:
    if type(module) in ACTIVATIONS:
        return Activation(*place(node, numbers), kind=ACTIVATIONS[type(module)])
    maker = MODULES.get(type(module))
    if maker is None:
        raise Unsupported(f"{type(module).__name__} has no layer record")
    return maker(module, node, numbers)


def _of_call(target: object, node: fx.Node, numbers: Numbers) -> Record:
    if target in CALLED:
        return Activation(*place(node, numbers), kind=CALLED[target])
    if target in CALLS:
        return CALLS[target](node, numbers)
    name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    raise Unsupported(f"{name} has no layer record")
