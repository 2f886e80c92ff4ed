"""What a module does to its inputs before its first layer, taken out of it.

pfl's own models take images [n, H, W, C] and begin with `permute(0, 3, 1, 2)`. Done to the data
once, a cohort's layers need not know it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

from torch import Tensor, fx, nn

METHODS = {"permute", "transpose", "swapaxes", "movedim", "unsqueeze", "contiguous", "float"}
NUMBERS = {operator.truediv, operator.mul, operator.sub, operator.add}

Head = Callable[[Tensor], Tensor]


def split_head(module: nn.Module) -> tuple[Head, nn.Module] | None:
    """(what is done to inputs first, the rest of the module); None where there is nothing.

    The rest shares the module's layers and the names of its parameters.
    """
    try:
        graph = fx.Tracer().trace(module)
    except Exception:  # data-dependent control flow, and whatever else a module does
        return None
    first = next(node for node in graph.nodes if node.op == "placeholder")
    last = first
    while len(last.users) == 1 and _of_inputs(following := next(iter(last.users)), last):
        last = following
    if last is first:
        return None
    return _head(graph, last), _rest(module, graph, first, last)


def _of_inputs(node: fx.Node, source: fx.Node) -> bool:
    """Whether a node moves or scales each sample of `source` by itself, by constants alone."""
    known = node.target in (METHODS if node.op == "call_method" else NUMBERS)
    return known and node.op != "call_module" and node.args[0] is source and (
        node.all_input_nodes == [source]
    )


def _head(graph: fx.Graph, last: fx.Node) -> Head:
    """The graph up to `last`, as a function of the inputs."""
    part, copied = fx.Graph(), {}
    for node in graph.nodes:
        copied[node] = part.node_copy(node, lambda n: copied[n])
        if node is last:
            break
    part.output(copied[last])
    return fx.GraphModule({}, part)


def _rest(module: nn.Module, graph: fx.Graph, first: fx.Node, last: fx.Node) -> nn.Module:
    """The graph behind `last`; a placeholder takes its place."""
    last.replace_all_uses_with(first, lambda user: user is not last and user is not first)
    graph.eliminate_dead_code()
    rest = fx.GraphModule(module, graph)
    return rest.train(module.training)
