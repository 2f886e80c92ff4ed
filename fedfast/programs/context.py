"""The execution context of one batch: what layer records ask while it runs.

Where a value is, which weights a pass reads, where gradients go, and how contributions to one
value's gradient are joined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from .. import kernels
from ..batches import Minibatch
from ..executor import Fold
from ..kernels._args import Coefficient
from .clip import Clip
from .grad_norms import GradNorms
from .records import Factors, Record, Sink, Waiting
from .sam import SamBuffers
from .workspace import Workspace


@dataclass
class BatchContext:
    """An `ExecutionContext` in the buffers of `workspace`.

    w           [K, >= trained], the models
    buffers     [K, S], rows whose tail holds running statistics; None where they stay
    g           [K, >= trained], where gradients go, or weights under a `fold`
    sam         the buffers of SAM's passes; the second pass also has `ahead`, the perturbed rows
    grad_norms  where products write the squares of their gradients, if anybody wants them
    clip        of a clipped step: whose dense layers' products wait for the norm
    learning    values that gradients lead through, where those of some parameters are wanted alone
    collected   values whose gradient has a contribution already
    pending     (value, one part, other part) of gradients to be added up
    passed      value -> the one in whose buffer its gradient lies, unchanged
    written     parameters whose gradient has been written
    """

    workspace: Workspace
    backend: str
    precision: str
    batch: Minibatch
    w: Tensor
    buffers: Tensor | None
    g: Tensor
    fold: Fold | None = None
    sam: SamBuffers | None = None
    ahead: Tensor | None = None
    grad_norms: GradNorms | None = None
    clip: Clip | None = None
    learning: frozenset[int] | None = None
    collected: set[int] = field(default_factory=set)
    pending: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)
    passed: dict[int, int] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.x, self.count = self.batch.x, self.batch.count
        self.clients = self.x.shape[0]

    @cached_property
    def seeds(self) -> Tensor:
        drawn = self.batch.seeds
        drawn = torch.empty(0, dtype=torch.int64) if drawn is None else drawn
        return drawn.to(self.x.device)

    def value(self, v: int) -> Tensor:
        return self._value(v, self._second_pass.values if self._second_pass else {})

    def _value(self, v: int, copies: Mapping[int, Tensor]) -> Tensor:
        root = self.workspace.program.root(v)
        if root == 0:
            held = self.x
        else:
            held = copies.get(root, self.workspace.values[root])[: self.clients]
        return held.view(*self.x.shape[:2], *self.workspace.program.shapes[v])

    @property
    def _second_pass(self) -> SamBuffers | None:
        """Whose buffers take the place of the workspace's: those of the second pass."""
        return None if self.ahead is None else self.sam

    def factors(self, record: Record) -> Factors:
        if self.sam is None:
            raise ValueError("factors: expected one of SAM's passes")
        v, d = record.output, self.workspace.gradients[record.output][: self.clients]
        x, out = self._value(record.inputs[0], {}), self._value(v, {})
        return self.sam.factors(self.clients, v, x, out, d)

    def saved(self, key: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return self.workspace.saved(key, shape, dtype)

    def buffer(self, name: str) -> Tensor | None:
        return None if self.buffers is None else self.workspace.views(self.buffers)[name]

    def parameter(self, name: str) -> Tensor:
        constant = self.workspace.program.constants.get(name)
        if constant is not None:
            return constant.expand(self.clients, *constant.shape)
        held = self.workspace.layout.aliases.get(name, name)
        if self.ahead is not None and self.sam is not None and held in self.sam.moved:
            return self.workspace.views(self.ahead)[held]
        return self.workspace.views(self.w)[held]

    def sink(self, name: str) -> Sink | None:
        if name in self.workspace.program.constants:
            return None
        held = self.workspace.layout.aliases.get(name, name)
        out, fold = self.workspace.views(self.g)[held], self.fold
        alpha: Coefficient = 1.0 if fold is None else fold.alpha
        if held in self.written:  # a tied weight: its second layer adds to the first
            return Sink(out, alpha, 1.0, out)
        self.written.add(held)
        if fold is None:
            return Sink(out)
        addend = None if fold.addend is None else self.workspace.views(fold.addend)[held]
        return Sink(out, alpha, fold.beta, self.workspace.views(fold.base)[held], addend)

    def squares(self, v: int) -> Tensor | None:
        return None if self.grad_norms is None else self.grad_norms.of(v, self.clients)

    def waiting(self, v: int) -> Waiting | None:
        return None if self.clip is None else self.clip.waiting(v, self.clients)

    def needs(self, v: int) -> bool:
        return v in (self.workspace.learning if self.learning is None else self.learning)

    def own_gradient(self, v: int) -> Tensor:
        """The gradient buffer of v, about to be written whole."""
        self.collected.add(self.workspace.program.root(v))
        return self.gradient(v)

    def gradient(self, v: int) -> Tensor:
        root = self.workspace.program.root(v)
        root = self.passed.get(root, root)
        copies = self._second_pass.gradients if self._second_pass else {}
        held = copies.get(root, self.workspace.gradients[root])[: self.clients]
        return held.view(*self.x.shape[:2], *self.workspace.program.shapes[v])

    def collect(self, v: int) -> Tensor | None:
        root = self.workspace.program.root(v)
        if not self.needs(v):
            return None
        if root in self.passed:
            former = self.gradient(v)
            del self.passed[root]  # from here on it has a buffer of its own
            part = self.gradient(v)
            self.pending.append((v, part, former))
            return part
        if root not in self.collected:
            return self.own_gradient(v)
        total = self.gradient(v)
        part = self.workspace.spare[: self.clients, : total[0].numel()].view(total.shape)
        self.pending.append((v, total, part))
        return part

    def pass_on(self, y: int, v: int) -> None:
        program, dy = self.workspace.program, self.gradient(y)
        root, source = program.root(v), program.root(y)
        if not self.needs(v):
            return
        if root in self.collected:
            former = self.gradient(v)
            self.passed.pop(root, None)
            self.pending.append((v, former, dy))
            self.settle()
        elif self.workspace.sources[root].overwrites:
            flat, dx = dy.flatten(1), self.own_gradient(v)
            kernels.mix(flat, flat, b=0.0, out=dx.flatten(1), backend=self.backend)
        else:
            self.collected.add(root)
            self.passed[root] = self.passed.get(source, source)

    def settle(self) -> None:
        """Add up what the last record left in two places."""
        for v, one, other in self.pending:
            a, b, total = (t.flatten(1) for t in (one, other, self.gradient(v)))
            kernels.mix(a, b, out=total, backend=self.backend)
        self.pending.clear()
