"""The generic path: any module's gradients, client by client, through autograd.

It asks nothing of the module and gives every client its own arithmetic: a batch is never padded or
joined with another client's, a client's step runs on one thread, and each (seed, round, client,
step) seeds its own dropout. So what a client computes cannot depend on its company. It is the slow
path; its results are what faster ones are held to.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .algorithms.objective import Objective
from .constants import Constants
from .copies import copy_of, parameter_hooks
from .data import Samples
from .input_pipeline import View
from .layout import FlatLayout
from .metrics import MULTICLASS, Metric
from .model_inspection import Traits, workers_for
from .network import Loss, ModuleWithWeights, Part, assess, run_loss, total
from .random import EVALUATION, keys64
from .random_state import kept_random_state, seed_all
from .tf32 import rounding
from .threads import torch_threads

T = TypeVar("T")
Seeds = Sequence[int] | Tensor

EVALUATION_BATCH = 512


@dataclass(frozen=True)
class Minibatch:
    """One local step's samples of K clients.

    x, y   [K, B, ...], [K, B]; count [K] int32, how many of a client's B are real, the first ones
    seeds  one per client (a tensor: [K] int64), for modules that draw random numbers in training
    """

    x: Tensor
    y: Tensor
    count: Tensor
    seeds: Seeds | None


class ModuleExecutor:
    """Gradients and evaluation of a module whose tensors live in rows.

    module   any `nn.Module`; it is copied, once per worker
    loss     (logits, targets) -> scalar mean over the batch
    threads  for clients side by side, each on one intra-operation thread
    traits   what `probe` found out about the module
    metric   (outputs, targets) -> how right each sample's prediction is
    precision  whether CUDA's own libraries may round float32 products to TF32
    seed     keys the random numbers of modules that draw some in evaluation
    """

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
        self.seed = int(keys64(seed, 0, 0, EVALUATION, 1)[0] >> 1)
        self.hooks = parameter_hooks(module)
        self.layout, self.loss, self.random = layout, loss, traits.random
        self.metric, self.precision = metric, precision
        self.workers = workers_for(traits, threads)
        self.replicas = [copy_of(module).train() for _ in range(self.workers)]
        self.evaluators = [copy_of(module).eval() for _ in range(self.workers)]
        carried = frozenset(slot.name for slot in layout.slots)
        self.constants = [Constants(replica, carried) for replica in self.replicas]
        self.pool, self._busy = self._workers(), False
        self._call, self._working = object(), [threading.Lock() for _ in range(self.workers)]
        self._views: dict[tuple[int, int, int, bool], dict[str, Tensor]] = {}

    def _workers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(
            self.workers, "fedfast", initializer=lambda: torch.set_num_threads(1)
        )

    def _each_worker(self, work: Callable[[int], T]) -> list[T]:
        """Run `work(worker)` for all workers, every one on a single intra-operation thread."""
        if self.workers == 1:
            with torch_threads(1):
                return [work(0)]
        return self._side_by_side(work)

    def _side_by_side(self, work: Callable[[int], T]) -> list[T]:
        self.wait()
        self._busy, self._call = True, (call := object())

        def guarded(worker: int) -> T | None:
            with self._working[worker]:
                return work(worker) if self._call is call else None

        try:
            found: list[T] = list(self.pool.map(guarded, range(self.workers)))  # type: ignore[arg-type]
        except BaseException:  # a signal's too: the other workers still write to the live buffers
            self.wait()
            raise
        self._busy = False
        return found

    def wait(self) -> None:
        """Until no worker is at work any more for a call that was broken off."""
        if self._busy:
            # A thread that was being started when a signal came is unknown to the pool: it is told
            # that nobody waits for its work, or waited for where it has begun.
            self._call = object()
            for working in self._working:
                with working:
                    pass
            self.pool.shutdown(wait=True)
            self.pool, self._busy = self._workers(), False

    def _row(self, bank: Tensor, k: int, trained: bool) -> dict[str, Tensor]:
        """Views of row k; the live buffers last as long as the run, so these are made once."""
        key = bank.data_ptr(), bank.stride(0), k, trained
        if key not in self._views:
            # `.data`: a version counter of its own for each. Views share their bank's, and a client
            # that writes its running statistics would spoil the graph of another in its thread.
            views = self.layout.views(bank[k], trained)
            self._views[key] = {name: view.data for name, view in views.items()}
        return self._views[key]

    def forget(self) -> None:
        """Let go of the live buffers of a run: others take their place."""
        self._views.clear()

    def batch(
        self, view: View, y: Tensor, rows: Tensor, count: Tensor, seeds: Seeds | None
    ) -> Minibatch:
        """The samples `rows` [K, B] of a bank; client k uses the first count[k]."""
        with torch_threads(1):  # beside the gradients a gather is small, and barriers are not
            return Minibatch(view.take(rows), y[rows], count, seeds)

    def gradients(
        self,
        w: Tensor,
        carried: Tensor,
        batch: Minibatch,
        g: Tensor,
        losses: Tensor,
        keep_carried: bool,
        objective: Objective | None = None,
    ) -> None:
        """Write each client's mini-batch gradient and loss.

        w        [K, >= trained]  models; row stride 0 where all share one
        carried  [K, S]           rows whose tail holds buffers, updated unless `keep_carried`
        g        [K, >= trained]  out, `g[:, :trained]`
        losses   [K]              out
        objective  an algorithm's loss in the place of the run's
        The caller sets `rounding`, once a round: it takes as long as small operations do.
        """
        count, loss = batch.count.tolist(), objective or run_loss

        def work(worker: int) -> None:
            for k in range(worker, len(count), self.workers):
                tail = self._tail(self._row(carried, k, False), keep_carried)
                model = {n: v.detach().requires_grad_() for n, v in self._row(w, k, True).items()}
                for name, hooks in self.hooks.items():
                    for hook in hooks if name in model else ():
                        model[name].register_hook(hook)
                net = self._network(worker, {**model, **tail}, batch.seeds, k)
                value = loss(net, batch.x[k, : count[k]], batch.y[k, : count[k]], k)
                losses[k] = value.detach()
                self._backward(value, model, self._row(g, k, True))
                if not keep_carried:
                    self._take_back(self._row(carried, k, False), net.tensors)
            self.constants[worker].check()

        self._each_worker(work)

    def _tail(self, views: dict[str, Tensor], keep: bool) -> dict[str, Tensor]:
        """The carried tensors of one client; copies where the forward pass must not move them."""
        slots = [s for s in self.layout.slots if not s.trained]
        tail = {s.name: views[s.name] for s in slots}
        own = {s.name: tail[s.name].to(s.dtype) for s in self.layout.counters}
        return ({name: t.clone() for name, t in tail.items()} if keep else tail) | own

    def _take_back(self, views: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
        """Into the row what a forward pass left elsewhere: counters, and buffers set anew."""
        for slot in self.layout.slots:
            if not slot.trained and tensors[slot.name] is not views[slot.name]:
                views[slot.name].copy_(tensors[slot.name].detach())

    def _network(
        self, worker: int, tensors: dict[str, Tensor], seeds: Seeds | None, k: int
    ) -> ModuleWithWeights:
        seed = None if seeds is None else int(seeds[k])
        return ModuleWithWeights(self.replicas[worker], tensors, self.layout, self.loss, seed)

    def _backward(
        self, loss: Tensor, model: dict[str, Tensor], gradient: dict[str, Tensor]
    ) -> None:
        found = torch.autograd.grad(loss, list(model.values()), allow_unused=True)
        for view, part in zip(gradient.values(), found, strict=True):
            view.zero_() if part is None else view.copy_(part)

    @torch.no_grad()
    def evaluate(self, row: Tensor, samples: Samples) -> tuple[float, float]:
        """(accuracy, mean loss) of one model. row: [S]."""
        tensors = self.layout.tensors(row.clone())  # no module may change the model it is judged by
        starts = range(0, len(samples), EVALUATION_BATCH)

        def work(worker: int) -> list[tuple[int, Part]]:
            with torch.no_grad():
                return [
                    (i, self._judge(self.evaluators[worker], tensors, samples, starts[i]))
                    for i in range(worker, len(starts), self.workers)
                ]

        with kept_random_state(), rounding(self.precision):
            found = [part for made in self._each_worker(work) for part in made]
        parts = [part for _, part in sorted(found, key=lambda made: made[0])]
        return total(self.loss, parts, samples.y)

    def predict(self, jobs: Sequence[tuple[Callable[[], Tensor], Samples]]) -> list[Tensor]:
        """The predicted classes [n] of every job: (what returns a model's row [S], samples)."""
        return self._each_job(jobs, lambda outputs, _: outputs.argmax(dim=1))

    def correct(self, jobs: Sequence[tuple[Callable[[], Tensor], Samples]]) -> list[Tensor]:
        """How right each prediction [n] of every job is, as the metric has it."""
        return self._each_job(jobs, self.metric)

    @torch.no_grad()
    def _each_job(
        self, jobs: Sequence[tuple[Callable[[], Tensor], Samples]], read: Metric
    ) -> list[Tensor]:
        """`read(outputs, targets)` of every job."""

        def one(worker: int, row: Tensor, samples: Samples) -> Tensor:
            x = samples.inputs(self.layout.dtype).clone()  # forward may write into it
            tensors = self.layout.tensors(row.clone())
            self._reseed(0)
            return read(functional_call(self.evaluators[worker], tensors, (x,)), samples.y)

        def work(worker: int) -> list[Tensor]:
            with torch.no_grad():
                return [one(worker, row(), part) for row, part in jobs[worker :: self.workers]]

        with kept_random_state(), rounding(self.precision):
            found = self._each_worker(work)
        return [found[i % self.workers][i // self.workers] for i in range(len(jobs))]

    def _reseed(self, start: int) -> None:
        """The same numbers at every evaluation."""
        if self.random:
            seed_all(self.seed ^ start)

    def _judge(
        self, evaluator: nn.Module, tensors: dict[str, Tensor], samples: Samples, start: int
    ) -> Part:
        """One slice of the test set."""
        part = samples.take(slice(start, start + EVALUATION_BATCH))
        self._reseed(start)
        x = part.inputs(self.layout.dtype).clone()  # forward may write into it: the set stays
        outputs = functional_call(evaluator, tensors, (x,))
        return assess(self.loss, self.metric, outputs, part.y, len(samples))
