"""From an `nn.Module` to a layer program: torch.fx finds the layers, `layers.py` knows them."""

from __future__ import annotations

import itertools
import operator
import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from ..copies import copy_of, hooked
from ..random_state import kept_random_state
from .elementwise import Activation, Dropout
from .fx_nodes import Unsupported, lstm_of, size_of
from .layers import record_of
from .normalization import BatchNorm
from .pooling import Pool
from .products import Conv, ConvPool, ProductLayer
from .records import Record, Reshape

TRACING = threading.Lock()
PATCHED = "__call__", "__getattr__"  # of `nn.Module`, by torch.fx
FUSED = ("relu", "tanh")
SIZES = (int, torch.Size)  # what `x.size(0)` gives: read by reshapes, which keep samples apart


@dataclass(frozen=True)
class Program:
    """Records in the order they run, and the values between them.

    records  every layer
    shapes   of each value, batch dimension left out; value 0 is the input
    output   the value that holds the logits
    """

    records: tuple[Record, ...]
    shapes: tuple[tuple[int, ...], ...]
    output: int

    @property
    def parameters(self) -> frozenset[str]:
        """Names of all trained parameters that the records read."""
        return frozenset(name for record in self.records for name in record.parameters)

    @property
    def reuses(self) -> bool:
        """Whether some parameter is read by more than one record."""
        read = [name for record in self.records for name in record.parameters]
        return len(set(read)) < len(read)

    @property
    def chain(self) -> bool:
        """Whether every value has at most one reader, so that no gradients are added up."""
        read = [v for record in self.records for v in record.inputs]
        return len(set(read)) == len(read)

    @property
    def values(self) -> frozenset[int]:
        """The input and what records write; what lies within fused layers is never in memory."""
        return frozenset({0, *(record.output for record in self.records)})

    @property
    def widest_join(self) -> int:
        """Elements of a sample's largest value whose gradient more than one record may add to."""
        if self.chain:
            return 0
        return max((prod(self.shapes[v]) for v in self.learning), default=0)

    def root(self, v: int) -> int:
        """The value in whose memory v lies: v itself, or what a reshape made it from."""
        return self._roots.get(v, v)

    @cached_property
    def _roots(self) -> dict[int, int]:
        roots: dict[int, int] = {}
        for record in self.records:
            if isinstance(record, Reshape):
                v = record.inputs[0]
                roots[record.output] = roots.get(v, v)
        return roots

    @property
    def buffers(self) -> frozenset[str]:
        """Names of all buffers that the records update."""
        return frozenset(name for record in self.records for name in record.buffers)

    @property
    def counters(self) -> dict[str, int]:
        """BatchNorm's counters of batches, and by how many a step moves each."""
        leads = [r.counter for r in self.records if isinstance(r, BatchNorm) and r.counter]
        return {name: leads.count(name) for name in leads}

    @property
    def learning(self) -> frozenset[int]:
        """Values whose gradient leads to a parameter."""
        found: set[int] = set()
        for record in self.records:
            if record.parameters or found.intersection(record.inputs):
                found.add(record.output)
        return frozenset(found)


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
    module = copy_of(module).train(training)
    try:
        graph = _traced(module, training)
    except Exception as error:  # whatever the user's own code raises when it is traced
        return None, [Finding("module", f"torch.fx cannot trace it ({error})")]
    # Functional dropout draws whatever the mode: shapes must not cost the user random numbers.
    try:
        with torch.no_grad(), kept_random_state():
            ShapeProp(graph.eval()).propagate(x.clone())  # forward may write into its input
    except Exception as error:  # a gradient taken inside of forward, for one
        return None, [Finding("module", f"its graph does not run without gradients ({error})")]
    return _collect(graph.train(training))


class ThreadTracer(fx.Tracer):
    """torch.fx's tracer; it leaves alone what other threads call while `nn.Module` is patched."""

    def __init__(self) -> None:
        super().__init__(autowrap_modules=())  # type: ignore[arg-type]  # none, `math` neither
        self._thread = threading.get_ident()

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """As in torch.fx, for the thread that traces."""
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """As in torch.fx, for the thread that traces."""
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


def _traced(module: nn.Module, training: bool) -> fx.GraphModule:
    """torch.fx patches `nn.Module` for all threads: two traces at once would leave it patched."""
    with TRACING, kept_random_state(), torch.set_grad_enabled(training):
        held = {name: vars(nn.Module)[name] for name in PATCHED}
        try:
            return fx.GraphModule(module, ThreadTracer().trace(module))
        finally:
            # torch.fx undoes its patches one after another; a signal amid that leaves the rest.
            for name, method in held.items():
                setattr(nn.Module, name, method)


def trace(module: nn.Module, x: Tensor, training: bool = True) -> tuple[Program | None, str]:
    """The program of a module, or None and the first reason why there is none; see `explain`."""
    program, findings = explain(module, x, training)
    reasons = [f"{f.layer}: {f.reason}" for f in findings if f.reason]
    return program, reasons[0] if reasons else ""


def _collect(graph: fx.GraphModule) -> tuple[Program | None, list[Finding]]:
    numbers: dict[fx.Node, int] = {}
    records: list[Record] = []
    shapes: list[tuple[int, ...]] = []
    findings: list[Finding] = []
    for node in graph.graph.nodes:
        if node.op == "output" or node.meta.get("type") in SIZES or _silent(node):
            continue
        numbers[node] = len(shapes)
        shapes.append(size_of(node)[1:])
        if node.op == "placeholder":
            continue
        try:
            _check_in_place(graph, node)
            records.append(record_of(graph, node, numbers))
            findings.append(Finding(_label(node), None))
        except Unsupported as reason:
            findings.append(Finding(_label(node), str(reason)))
    findings += _inputs(graph)
    if any(f.reason for f in findings):
        return None, findings
    output = numbers[_output(graph)]
    return Program(tuple(_numbered(_fused(records))), tuple(shapes), output), findings


def _silent(node: fx.Node) -> bool:
    """Whether a node only leads to an LSTM's states, or to what nobody reads of them."""
    if node.target is not operator.getitem:
        return False
    leads = node.meta.get("type") is tuple or lstm_of(node) is not None
    return leads or all(_silent(user) for user in node.users)


def _check_in_place(graph: fx.GraphModule, node: fx.Node) -> None:
    """Records never overwrite their input: in-place layers pass only where nobody else reads it."""
    if node.op == "call_module":
        writes = getattr(graph.get_submodule(str(node.target)), "inplace", False)
    else:
        writes = node.target is operator.iadd or bool(node.kwargs.get("inplace", False))
    if writes and any(len(source.users) > 1 for source in node.all_input_nodes[:1]):
        raise Unsupported("it overwrites a value that another layer reads")


def _inputs(graph: fx.GraphModule) -> list[Finding]:
    count = sum(node.op == "placeholder" for node in graph.graph.nodes)
    if count == 1 and isinstance(_output(graph), fx.Node):
        return []
    return [Finding("forward", "it does not take one tensor and return one")]


def _output(graph: fx.GraphModule) -> fx.Node:
    return next(node for node in graph.graph.nodes if node.op == "output").args[0]


def _label(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


def _numbered(records: Sequence[Record]) -> list[Record]:
    """Dropouts count from 0 in the order they run, so that each draws its own numbers."""
    layers = itertools.count()
    return [replace(r, layer=next(layers)) if isinstance(r, Dropout) else r for r in records]


def _fused(records: Sequence[Record]) -> list[Record]:
    """Activations and pooling move into the layer before them if nothing else reads its value."""
    readers: dict[int, int] = {}
    for record in records:
        for v in record.inputs:
            readers[v] = readers.get(v, 0) + 1
    merged: list[Record] = []
    for record in records:
        last = merged[-1] if merged else None
        own = last is not None and last.output == record.inputs[0] and readers[last.output] == 1
        both = _merged(last, record) if own else None
        if both is None:
            merged.append(record)
        else:
            merged[-1] = both
    return merged


def _merged(last: Record | None, record: Record) -> Record | None:
    """One record for both, None where there is none.

    Of a pooled convolution's activations only ReLU: the largest element before it is the largest
    after it to the bit, and rounding makes no two equal that were not.
    """
    if (
        isinstance(record, Activation)
        and isinstance(last, ProductLayer)
        and last.activation is None
    ):
        if record.kind in (("relu",) if isinstance(last, ConvPool) else FUSED):
            return replace(last, output=record.output, activation=record.kind)
    if isinstance(record, Pool) and type(last) is Conv and record.apart:
        about = {f.name: getattr(last, f.name) for f in fields(last)} | dict(output=record.output)
        return ConvPool(**about, window=record.kernel)
    return None
