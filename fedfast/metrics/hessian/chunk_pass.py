"""One chunk's part of `H v`: values and gradients at w, then tangents along v.

Of the cross-entropy of logits z over n samples, p = softmax(z):

    dz = (p - [class]) / n,    R dz = (p Rz - p <p, Rz>) / n
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ... import kernels
from ...batches import Minibatch
from ...data import Samples
from ...layout import FlatLayout
from ...programs.program import BufferSpec, Program
from ...programs.tangent_rules import RULES
from ...programs.tangents import FirstPass, TangentPass
from ...programs.workspace import Workspace
from .slices import Chunk


@dataclass(frozen=True)
class Given:
    """What all chunks share. rows [K, S], samples of each model."""

    program: Program
    layout: FlatLayout
    rows: Tensor
    samples: Sequence[Samples]
    backend: str

    def workspace(self, clients: int, width: int) -> Workspace:
        """Buffers of one of both passes."""
        spec = BufferSpec(clients, width, self.rows.device)
        return Workspace(self.program, self.layout, spec)


class ChunkPass:
    """The pass at w of a chunk, in `workspace`, and tangent passes after it."""

    def __init__(self, given: Given, chunk: Chunk, workspace: Workspace) -> None:
        self.given, self.chunk = given, chunk
        x, y = chunk.inputs(given.samples, given.layout.dtype)
        device, counts = given.rows.device, [s.count for s in chunk.slices]
        count = torch.tensor(counts, dtype=torch.int32, device=device)
        self.batch = Minibatch(x.to(device), y.to(device), count)
        of = [len(given.samples[k]) for k in chunk.models]
        self._of = torch.tensor(of, dtype=torch.float64, device=device)
        self._share = count / self._of
        w = chunk.rows(given.rows)
        self.first = FirstPass(workspace, given.backend, "fp32", self.batch, w, None, w)

    @cached_property
    def _columns(self) -> Tensor:
        """1 / n of each slice's model, 0 beyond its samples. [L, B, 1]"""
        real = torch.arange(self.chunk.width, device=self._of.device) < self.batch.count[:, None]
        return (real / self._of[:, None])[..., None].to(self.first.w.dtype)

    @cached_property
    def _still(self) -> Minibatch:
        """The batch's tangent: words as they are, since layers take their weights' tangents."""
        x = self.batch.x
        still = x.new_zeros(1, *x.shape[1:]).expand_as(x) if x.is_floating_point() else x
        return Minibatch(still, self.batch.y, self.batch.count)

    def run(self) -> None:
        """Forward and backward at w."""
        first, program = self.first, self.given.program
        for collection in (first.collected, first.passed, first.written):
            collection.clear()
        for record in program.records:
            record.forward(first)
        logits, dz = first.value(program.output), first.own_gradient(program.output)
        losses = torch.empty_like(self._of, dtype=dz.dtype)
        where = self.batch.y, self.batch.count
        kernels.cross_entropy(logits, *where, losses=losses, dlogits=dz, backend=first.backend)
        dz *= self._share.to(dz.dtype)[:, None, None]
        self.shares = torch.softmax(logits, -1)
        for record in reversed(program.records):
            if any(map(first.needs, record.inputs)):
                record.backward(first)
                first.settle()

    def tangents(self, v: Tensor, out: Tensor, workspace: Workspace) -> None:
        """This chunk's part of H v: v, out `[L, S]`, a row for each slice."""
        program, how = self.given.program, (self.first.backend, "fp32", self._still)
        t = TangentPass(workspace, *how, v, None, out, first=self.first)
        for record in program.records:
            if t.needs(record.output):
                RULES[type(record)].forward(record, t)
        self._loss(t)
        for record in reversed(program.records):
            if t.needs(record.output):
                RULES[type(record)].backward(record, t)
                t.settle()

    def _loss(self, t: TangentPass) -> None:
        output = self.given.program.output
        rz, p = t.value(output), self.shares
        moved = p * rz
        moved -= p * moved.sum(-1, keepdim=True)
        torch.mul(moved, self._columns, out=t.own_gradient(output))
