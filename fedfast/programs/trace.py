"""From an `nn.Module` to a layer program: torch.fx finds layers, `layers.py` has their records."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Set
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from ..copies import copy_of, hooked
from ..random_state import kept_random_state
from .fx_nodes import Unsupported, lstm_of, size_of
from .layer_fusion import fused, numbered
from .layers import record_of
from .normalization import BatchNorm
from .program import Program
from .records import Record

TRACING = threading.Lock()
PATCHED = "__call__", "__getattr__"  # of `nn.Module`, by torch.fx
SIZES = (int, torch.Size)  # what `x.size(0)` gives: read by reshapes, which keep samples apart


@dataclass(frozen=True)
class Finding:
    """One line of `explain`: a layer and why it cannot be part of a program (None if it can)."""

    layer: str
    reason: str | None


def explain(
    module: nn.Module, x: Tensor, training: bool = True
) -> tuple[Program | None, list[Finding]]:
    """The program of a module, or None, and what was found layer by layer. x: `[2, ...]`.

    training  the module's mode: dropout asked for by `self.training` is part of it, or is not
    """
    if cause := hooked(module):
        return None, [Finding("module", cause)]
    given, module = module, copy_of(module).train()
    still = {name for name, m in module.named_modules() if not (m.training and training)}
    module.train(training)
    try:
        graph = _traced(module, training)
    except (MemoryError, torch.OutOfMemoryError):
        raise  # says nothing about the model
    except Exception as error:  # the user's own code may raise anything
        return None, [Finding("module", f"torch.fx cannot trace it ({error})")]
    modes = [(m, m.training) for m in module.modules()]
    # Functional dropout draws in every mode: shapes must not cost the user random numbers.
    try:
        with torch.no_grad(), kept_random_state():
            for m, _ in modes:  # not `eval`, which would ask the `train` of the user's
                m.training = False
            Shapes(module, graph=graph).run(x.clone())  # forward may write into its input
    except (MemoryError, torch.OutOfMemoryError):
        raise  # says nothing about the model
    except Exception as error:  # a gradient taken inside of forward, for one
        return None, [Finding("module", f"its graph does not run without gradients ({error})")]
    for m, mode in modes:
        m.training = mode
    program, findings = _collect(module, graph, still)
    return None if program is None else program.holding(given), findings


class Shapes(fx.Interpreter):
    """Notes the type and the shape of what each node gives.

    torch's `ShapeProp` does too, and imports sympy for it: most of a second of every process.
    """

    def run_node(self, n: fx.Node) -> object:
        """Of a tuple, the shape of its first tensor."""
        value = super().run_node(n)
        first = value[0] if isinstance(value, tuple) and value else value
        n.meta["type"] = type(value)
        n.meta["shape"] = tuple(first.shape) if isinstance(first, Tensor) else ()
        return value


class ThreadTracer(fx.Tracer):
    """torch.fx's tracer; it leaves alone what other threads call while `nn.Module` is patched."""

    def __init__(self) -> None:
        super().__init__(autowrap_modules=())  # type: ignore[arg-type]  # none, `math` neither
        self._thread = threading.get_ident()

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., object],
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> object:
        """As in torch.fx, for the thread that traces."""
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(
        self, attr: str, attr_val: object, parameter_proxy_cache: dict[str, fx.Proxy]
    ) -> object:
        """As in torch.fx, for the thread that traces."""
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


def _traced(module: nn.Module, training: bool) -> fx.Graph:
    """torch.fx patches `nn.Module` for all threads: two traces at once would leave it patched.

    A graph alone: a `GraphModule` of it would write and compile its code, which nobody runs.
    """
    with TRACING, kept_random_state(), torch.set_grad_enabled(training):
        held = {name: vars(nn.Module)[name] for name in PATCHED}
        try:
            return ThreadTracer().trace(module)
        finally:
            # torch.fx undoes its patches one after another; a signal amid that leaves the rest.
            for name, method in held.items():
                setattr(nn.Module, name, method)


def trace(module: nn.Module, x: Tensor, training: bool = True) -> tuple[Program | None, str]:
    """The program of a module, or None and the first reason why there is none; see `explain`."""
    program, findings = explain(module, x, training)
    reasons = [f"{f.layer}: {f.reason}" for f in findings if f.reason]
    return program, reasons[0] if reasons else ""


def _collect(
    module: nn.Module, graph: fx.Graph, still: Set[str]
) -> tuple[Program | None, list[Finding]]:
    """still: names of the modules that stay in evaluation mode while the model trains."""
    numbers: dict[fx.Node, int] = {}
    records: list[Record] = []
    shapes: list[tuple[int, ...]] = []
    findings: list[Finding] = []
    for node in graph.nodes:
        if node.op == "output" or node.meta.get("type") in SIZES or _silent(node):
            continue
        numbers[node] = len(shapes)
        shapes.append(size_of(node)[1:])
        if node.op == "placeholder":
            continue
        try:
            _check_in_place(module, node)
            records.append(record_of(module, node, numbers))
            _check_statistics(records[-1], str(node.target) in still)
            findings.append(Finding(_label(node), None))
        except Unsupported as reason:
            findings.append(Finding(_label(node), str(reason)))
    findings += _inputs(graph)
    if any(f.reason for f in findings):
        return None, findings
    output = numbers[_output(graph)]
    return Program(tuple(numbered(fused(records))), tuple(shapes), output), findings


def _silent(node: fx.Node) -> bool:
    """Whether a node only leads to an LSTM's states, or to what nobody reads of them."""
    if node.target is not operator.getitem:
        return False
    leads = node.meta.get("type") is tuple or lstm_of(node) is not None
    return leads or all(_silent(user) for user in node.users)


def _check_statistics(record: Record, still: bool) -> None:
    if isinstance(record, BatchNorm) and not record.training and not still:
        raise Unsupported("batch normalisation by running statistics that training moves")


def _check_in_place(module: nn.Module, node: fx.Node) -> None:
    """Records never overwrite their input: in-place layers pass only where nobody else reads it."""
    if node.op == "call_module":
        writes = getattr(module.get_submodule(str(node.target)), "inplace", False)
    else:
        writes = node.target is operator.iadd or bool(node.kwargs.get("inplace", False))
    if writes and any(len(source.users) > 1 for source in node.all_input_nodes[:1]):
        raise Unsupported("it overwrites a value that another layer reads")


def _inputs(graph: fx.Graph) -> list[Finding]:
    count = sum(node.op == "placeholder" for node in graph.nodes)
    if count == 1 and isinstance(_output(graph), fx.Node):
        return []
    return [Finding("forward", "it does not take one tensor and return one")]


def _output(graph: fx.Graph) -> fx.Node:
    return next(node for node in graph.nodes if node.op == "output").args[0]


def _label(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name
