"""A layer program: the layers of a module in the order they run; the size of its buffers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

import torch
from torch import Tensor, nn

from ..algorithms.objective import Sampling
from .normalization import BatchNorm
from .records import Record, Reshape


@dataclass(frozen=True)
class BufferSpec:
    """Up to `clients` clients with batches of `width` samples, on one device."""

    clients: int
    width: int
    device: torch.device

    def zeros(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """A row for each client: `[clients, *shape]`."""
        return torch.zeros(self.clients, *shape, dtype=dtype, device=self.device)


@dataclass(frozen=True)
class SampledHead:
    """A linear layer behind representations that are sampled; see `bottleneck.py`.

    size, classes  D, C: the program's output is [2 D], the layer's D to C
    """

    weight: str
    bias: str
    size: int
    classes: int
    sampling: Sampling


@dataclass(frozen=True)
class Program:
    """Records in the order they run, and the values between them.

    records  every layer
    shapes   of each value, batch dimension left out; value 0 is the input
    output   the value that holds the logits
    head     what follows the output, of programs of an encoder
    constants  tensors that all clients share and no step changes: frozen parameters, statistics
             of norms that stay in evaluation mode
    """

    records: tuple[Record, ...]
    shapes: tuple[tuple[int, ...], ...]
    output: int
    head: SampledHead | None = None
    constants: Mapping[str, Tensor] = field(default_factory=dict, compare=False)

    def holding(self, module: nn.Module) -> Program:
        """The same program with the constants of `module`, which it does not copy."""
        tensors: dict[str, Tensor] = dict(module.named_buffers(remove_duplicate=False))
        tensors.update(module.named_parameters(remove_duplicate=False))
        names = {name for record in self.records for name in record.constants}
        held = {name: tensors[name].detach().contiguous() for name in names}
        return replace(self, constants=held)

    @cached_property
    def parameters(self) -> frozenset[str]:
        """Names of all trained parameters that the records read."""
        return frozenset(name for record in self.records for name in record.parameters)

    @property
    def reuses(self) -> bool:
        """Whether some parameter is read by more than one record."""
        read = [name for record in self.records for name in record.parameters]
        return len(set(read)) < len(read)

    @property
    def values(self) -> frozenset[int]:
        """The input and what records write; what lies within fused layers is never in memory."""
        return frozenset({0, *(record.output for record in self.records)})

    @cached_property
    def remembered(self) -> frozenset[int]:
        """Values that are read after the forward pass, or by a second one: all where all learn.

        The second pass repeats layers that learn alone; what they read of others must be there.
        """
        if not self.constants:
            return self.values
        learns = [record for record in self.records if record.output in self.learning]
        read = {v for r in learns for v in r.inputs if v not in self.learning}
        read |= {v for r in learns for v in r.remembers}
        read |= {v for r in learns if r.parameters for v in (*r.inputs, r.output)}
        return frozenset(map(self.root, (*read, self.output)))

    @property
    def widest_join(self) -> int:
        """Elements of a sample's largest value whose gradient more than one record may add to."""
        read = [v for record in self.records for v in record.inputs]
        if len(set(read)) == len(read):  # every value has one reader: no gradients are added up
            return 0
        return max(map(self.elements, self.learning), default=0)

    def elements(self, *values: int) -> int:
        """How many numbers a sample has in these values together."""
        return sum(prod(self.shapes[v]) for v in values)

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

    @cached_property
    def learning(self) -> frozenset[int]:
        """Values whose gradient leads to a parameter."""
        return self.leading_to(self.parameters)

    def leading_to(self, names: Collection[str]) -> frozenset[int]:
        """Values whose gradient leads to one of these parameters."""
        found: set[int] = set()
        for record in self.records:
            if not set(record.parameters).isdisjoint(names) or found.intersection(record.inputs):
                found.add(record.output)
        return frozenset(found)
