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
    chain = [first]
    while len(chain[-1].users) == 1:
        (following,) = chain[-1].users
        if not _of_inputs(following, chain[-1]):
            break
        chain.append(following)
    if len(chain) == 1:
        return None
    return _head(chain), _rest(module, graph, chain)


def _of_inputs(node: fx.Node, source: fx.Node) -> bool:
    """Whether a node moves or scales each sample of `source` by itself, by constants alone."""
    known = node.target in (METHODS if node.op == "call_method" else NUMBERS)
    return (
        known
        and node.op != "call_module"
        and node.args[0] is source
        and (node.all_input_nodes == [source])
    )


def _head(chain: list[fx.Node]) -> Head:
    """The nodes of a chain, as a function of the inputs."""
    part = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in chain:
        copied[node] = part.node_copy(node, lambda n: copied[n])
    part.output(copied[chain[-1]])
    return fx.GraphModule({}, part)


def _rest(module: nn.Module, graph: fx.Graph, chain: list[fx.Node]) -> nn.Module:
    """The graph behind the chain; its placeholder takes the chain's place."""
    first, *others = chain
    others[-1].replace_all_uses_with(first)
    for node in reversed(others):
        graph.erase_node(node)
    return fx.GraphModule(module, graph).train(module.training)
