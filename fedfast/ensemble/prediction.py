"""Outputs of K models in evaluation mode: by a layer program for all at once, or by the module."""

from __future__ import annotations

from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor
from torch.func import functional_call

from ..batches import Minibatch
from ..copies import copy_of
from ..kernels import registry
from ..programs import Program
from ..programs.context import BatchContext
from ..programs.evaluator import elements_per_sample, evaluation_program, width_of
from ..programs.plans import PlanCache
from ..programs.program import BufferSpec
from ..programs.verify import Subject, difference, spread
from ..programs.workspace import Workspace
from ..random import EVALUATION, keys64
from ..random_state import kept_random_state, seed_all
from ..torch_settings import rounding
from .task import Architecture


class Predictor(Protocol):
    """Outputs of all models."""

    def outputs(self, rows: Tensor, x: Tensor, shared: bool) -> Tensor:
        """[K, n, ...] of rows [K, S] on x [n, ...], or [K, n, ...] where it is not shared."""


class ProgramPredictor:
    """Slices of one width, K models on each."""

    def __init__(self, program: Program, architecture: Architecture, count: int) -> None:
        self.program, self.layout, self.count = program, architecture.layout, count
        given, self._like = architecture.options, architecture.x
        self.backend, self.precision = given.backend, given.precision
        sample = elements_per_sample(program)
        self.width = width_of(sample * -(-count // 8))
        read = self.layout.trained + sum(t.numel() for t in program.constants.values())
        self._plans = PlanCache(self.width * (read // 8 + sample))
        can = registry.capabilities(self.backend, self._like.new_empty(0, dtype=self.layout.dtype))
        plain = not self.layout.ties and not program.reuses
        self._plannable = plain and can.plans and all(record.repeats for record in program.records)
        self._x: dict[bool, Tensor] = {}

    @torch.no_grad()
    def outputs(self, rows: Tensor, x: Tensor, shared: bool) -> Tensor:
        """See `Predictor`."""
        held, n = self._held(shared), x.shape[0 if shared else 1]
        found = x.new_empty(self.count, n, self._logits.shape[2], dtype=self.layout.dtype)
        for start in range(0, n, self.width):
            own = slice(start, min(start + self.width, n))
            size = own.stop - start
            held[:, :size] = x[own] if shared else x[:, own]
            self._forward(rows, shared)
            found[:, own] = self._logits[:, :size]
        return found

    def _forward(self, rows: Tensor, shared: bool) -> None:
        """What lies beyond the last sample is computed too, and read by nobody."""
        x = self._held(shared)
        x = x.expand(self.count, *x.shape[1:])

        def run() -> None:
            batch = Minibatch(x, self._count, self._count)  # no loss is taken: nobody reads labels
            how = self._workspace, self.backend, self.precision
            context = BatchContext(*how, batch, rows, None, rows)
            for record in self.program.records:
                record.forward(context)

        if self._plannable:
            plan = self._plans.plan((shared, rows.data_ptr()), self.count, run)
            plan.run(self.count, self._plans.work)
        else:
            run()

    def _held(self, shared: bool) -> Tensor:
        if shared not in self._x:
            copies = 1 if shared else self.count
            self._x[shared] = self._like.new_zeros(copies, self.width, *self._like.shape[1:])
        return self._x[shared]

    @cached_property
    def _workspace(self) -> Workspace:
        spec = BufferSpec(self.count, self.width, self._like.device)
        return Workspace(self.program, self.layout, spec, learns=False)

    @cached_property
    def _count(self) -> Tensor:
        device = self._like.device
        return torch.full((self.count,), self.width, dtype=torch.int32, device=device)

    @property
    def _logits(self) -> Tensor:
        """[K, width, classes]"""
        return self._workspace.values[self.program.root(self.program.output)].flatten(2)


class ModulePredictor:
    """The module under the weights of one model after another."""

    def __init__(self, architecture: Architecture, random: bool, seed: int) -> None:
        self.layout, self.precision = architecture.layout, architecture.options.precision
        self.module = copy_of(architecture.module).eval()
        self.random, self.seed = random, seed

    @torch.no_grad()
    def outputs(self, rows: Tensor, x: Tensor, shared: bool) -> Tensor:
        """See `Predictor`. A module that draws random numbers draws the same in every call."""
        found = []
        with kept_random_state(), rounding(self.precision):
            for k, row in enumerate(rows):
                if self.random:
                    seed_all(int(keys64(self.seed, 0, k, EVALUATION, 1)[0] >> 1))
                own = (x if shared else x[k]).clone()  # forward may write into it
                tensors = self.layout.tensors(row.clone())
                found.append(functional_call(self.module, tensors, (own,)))
        return torch.stack(found)


def predictor_for(
    architecture: Architecture, row: Tensor, x: Tensor, seed: int, count: int
) -> Predictor:
    """What is fastest and computes what the module does, on x [n, ...] of one model [S]."""
    layout, module, given = architecture.layout, architecture.module, architecture.options
    able = registry.capabilities(given.backend, row).evaluates
    program = evaluation_program(module, layout, architecture.x) if able else None
    if program is not None and given.verify:
        subject = Subject(module, layout, row, x[spread(len(x))], given.backend)
        program = None if difference(subject) else program
    if program is None:
        return ModulePredictor(architecture, architecture.traits.random, seed)
    return ProgramPredictor(program, architecture, count)
