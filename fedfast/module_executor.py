"""Any module's gradients, client by client, through autograd.

It asks nothing of the module and gives every client its own arithmetic: a batch is never padded or
joined with another client's, a client's step runs on one thread, and each (seed, round, client,
step) seeds its own dropout. So what a client computes cannot depend on its company. It is slower
than a layer program; its results are the reference for those.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .batches import BatchNumbers, Minibatch
from .constants import Constants
from .copies import copy_of, parameter_hooks
from .executor import Capabilities, Executor, LocalStep, StepTensors
from .first_use import FirstUse
from .input_pipeline import SampleSource
from .layout import FlatLayout
from .losses import Loss
from .metrics.accuracy import MULTICLASS, Metric
from .model_inspection import Traits, workers_for
from .module_evaluator import ModuleEvaluator
from .network import ModuleWithWeights, run_loss
from .phases import timed
from .torch_settings import torch_threads
from .worker_pool import WorkerPool


@dataclass(frozen=True)
class _Job:
    """One call of `gradients`."""

    step: LocalStep
    tensors: StepTensors
    batch: Minibatch
    numbers: BatchNumbers


class _Replica(NamedTuple):
    """A worker's copy of the module."""

    module: nn.Module
    constants: Constants


def _replica(module: nn.Module, layout: FlatLayout) -> _Replica:
    copied = copy_of(module).train()
    return _Replica(copied, Constants(copied, frozenset(slot.name for slot in layout.slots)))


class ModuleExecutor(Executor):
    """Gradients of a module whose tensors lie in rows.

    module   any `nn.Module`; it is copied, twice per worker, when the copies are first used
    loss     (logits, targets) -> scalar mean over the batch
    threads  for clients side by side, each on one intra-operation thread
    traits   what `inspect_model` found out about the module
    metric   (outputs, targets) -> how right each sample's prediction is
    precision  whether CUDA's own libraries may round float32 products to TF32
    seed     keys the random numbers of modules that draw some in evaluation
    The caller sets `rounding`, once a round: it takes as long as small operations do.
    """

    capabilities = Capabilities(runs_module=True)

    def __init__(
        self,
        module: nn.Module,
        layout: FlatLayout,
        loss: Loss,
        threads: int,
        traits: Traits,
        metric: Metric = MULTICLASS,
        precision: str = "fp32",
        seed: int = 0,
    ) -> None:
        self.layout, self.loss, self.random, self.precision = layout, loss, traits.random, precision
        self.hooks, self.pool = parameter_hooks(module), WorkerPool(workers_for(traits, threads))
        # Where a layer program trains nobody may ever ask for them.
        self._replicas = FirstUse(
            lambda: [_replica(module, layout) for _ in range(self.pool.workers)]
        )
        how = metric, self.pool, traits.random, precision, seed
        self.evaluator = ModuleEvaluator(module, layout, loss, *how)
        self._views: dict[tuple[int, int, int, bool], dict[str, Tensor]] = {}

    def row_views(self, rows: Tensor, k: int, trained: bool) -> dict[str, Tensor]:
        """Views of row k; the live buffers last as long as the run, so these are made once."""
        key = rows.data_ptr(), rows.stride(0), k, trained
        if key not in self._views:
            # `.data`: a version counter of its own for each. Views share their base's, and a client
            # that writes its running statistics would spoil the graph of another in its thread.
            views = self.layout.views(rows[k], trained)
            self._views[key] = {name: view.data for name, view in views.items()}
        return self._views[key]

    def forget(self) -> None:
        """Let go of the live buffers of a run: others take their place."""
        self._views.clear()

    def batch(
        self, source: SampleSource, rows: Tensor, count: Tensor, seeds: Tensor | None
    ) -> Minibatch:
        """The samples `rows` [K, B], in memory of their own."""
        with torch_threads(1):  # beside the gradients a gather is small, and barriers are not
            return Minibatch(source.inputs(rows), source.y[rows], count, seeds)

    @timed("forward_backward")
    def gradients(self, step: LocalStep, tensors: StepTensors, batch: Minibatch) -> None:
        """See `Executor.gradients`."""
        if any(part is not None for part in (step.ascent, step.fold, step.update)):
            raise ValueError("step: this executor takes gradients, and does nothing else with them")
        job = _Job(step, tensors, batch, batch.numbers())
        turns = itertools.count()  # a worker that is free takes the next client

        def work(worker: int) -> None:
            # Not `vmap`: the bits of its batched products differ between one client and two.
            while (k := next(turns)) < len(job.numbers.count):
                self._client(worker, k, job)
            self._replicas()[worker].constants.check()

        self.pool.each(work)

    def _client(self, worker: int, k: int, job: _Job) -> None:
        tensors, batch, numbers = job.tensors, job.batch, job.numbers
        count = numbers.count[k]
        buffers = self._buffers(self.row_views(tensors.buffers, k, False), job.step.keep_buffers)
        model = self._leaves(self.row_views(tensors.w, k, True))
        seed = None if numbers.seeds is None else numbers.seeds[k]
        held = {**model, **buffers}
        net = ModuleWithWeights(self._replicas()[worker].module, held, self.layout, self.loss, seed)
        loss = (job.step.objective or run_loss)(net, batch.x[k, :count], batch.y[k, :count], k)
        tensors.losses[k] = loss.detach()
        self._backward(loss, model, self.row_views(tensors.out, k, True))
        if not job.step.keep_buffers:
            self._take_back(self.row_views(tensors.buffers, k, False), net.tensors)

    def _leaves(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights as leaves of a graph, under the hooks of the user's parameters."""
        model = {name: view.detach().requires_grad_() for name, view in views.items()}
        for name, hooks in self.hooks.items():
            for hook in hooks if name in model else ():
                model[name].register_hook(hook)
        return model

    def _buffers(self, views: dict[str, Tensor], keep: bool) -> dict[str, Tensor]:
        """The module's buffers; copies where the forward pass must not change them."""
        slots = [s for s in self.layout.slots if not s.trained]
        tail = {s.name: views[s.name] for s in slots}
        own = {s.name: tail[s.name].to(s.dtype) for s in self.layout.counters}
        return ({name: t.clone() for name, t in tail.items()} if keep else tail) | own

    def _take_back(self, views: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
        """Into the row what a forward pass left elsewhere: counters, and buffers set anew."""
        for slot in self.layout.slots:
            if not slot.trained and tensors[slot.name] is not views[slot.name]:
                views[slot.name].copy_(tensors[slot.name].detach())

    def _backward(
        self, loss: Tensor, model: dict[str, Tensor], gradient: dict[str, Tensor]
    ) -> None:
        found = torch.autograd.grad(loss, list(model.values()), allow_unused=True)
        for view, part in zip(gradient.values(), found, strict=True):
            view.zero_() if part is None else view.copy_(part)
