"""The generic path: any module's gradients, client by client, through autograd.

It asks nothing of the module and gives every client its own arithmetic: a batch is never padded or
joined with another client's, a client's step runs on one thread, and each (seed, round, client,
step) seeds its own dropout. So what a client computes cannot depend on its company. It is the slow
path; its results are what faster ones are held to.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .algorithms.objective import Objective
from .constants import Constants, cast, changed, snapshot
from .copies import copy_of, parameter_hooks
from .data import Samples
from .input_pipeline import View
from .layout import FlatLayout
from .metrics import MULTICLASS, Metric
from .network import Loss, ModuleWithWeights, Part, assess, run_loss, total
from .random import EVALUATION, keys64
from .random_state import kept_random_state, restore, same, seed_all, states
from .tf32 import rounding

T = TypeVar("T")
Seeds = Sequence[int] | Tensor

EVALUATION_BATCH = 512
WORTH_A_THREAD = 4e-3  # seconds of a client's step, above which threads gain more than they cost


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


@dataclass(frozen=True)
class Traits:
    """What a trial step tells: the outputs, whether random numbers were drawn, its seconds.

    moving  names of the buffers and frozen parameters that it changed, and of running statistics
    """

    classes: int
    random: bool
    seconds: float
    moving: frozenset[str]


def workers_for(traits: Traits, threads: int) -> int:
    """Threads for clients side by side, each with a copy of the module to train and one to judge.

    Short steps are all interpreter, which serves one thread at a time; random numbers come from one
    global generator. Which thread computes a client never changes its result.
    """
    return 1 if traits.random or traits.seconds < WORTH_A_THREAD else threads


def probe(module: nn.Module, x: Tensor) -> Traits:
    """One forward and backward pass over `x` [n, ...] on a copy of the module.

    Raises ValueError if the module cannot take the data or does not answer with `[n, classes]`.
    """
    dtype = x.dtype if x.is_floating_point() else None  # tokens say nothing about the module's
    trial = cast(copy_of(module), x.device, dtype).train()
    before, still = states(), snapshot(trial)
    begin = time.perf_counter()
    with refused(x), torch.enable_grad():
        logits = trial(x.clone())  # forward may write into its input
    with refused(x, " in evaluation mode"), torch.no_grad():
        trial.eval()(x.clone())
    trial.train()
    drew = not same(before, states())
    restore(before)
    if not isinstance(logits, Tensor) or logits.ndim == 0 or len(logits) != len(x):
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"model: expected logits [{len(x)}, classes]; got {found}")
    logits.sum().backward()
    seconds = time.perf_counter() - begin
    classes = logits[0].numel() if logits.ndim == 1 else logits.shape[1]
    return Traits(classes, drew, seconds, changed(trial, still))


@contextmanager
def refused(x: Tensor, mode: str = "") -> Iterator[None]:
    """What a module raises on `x` as a ValueError that names it."""
    try:
        yield
    except Exception as error:  # whatever the user's own code raises
        said = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"model: it cannot take data of shape {list(x.shape)}{mode} ({said})"
        ) from error


def single_sample_trouble(module: nn.Module, x: Tensor) -> str:
    """Why the module cannot be trained on one sample, "" where it can. x `[1, ...]`

    BatchNorm over one value per channel has no variance; over a map of more than one pixel it has.
    """
    dtype = x.dtype if x.is_floating_point() else None
    trial = cast(copy_of(module), x.device, dtype).train()
    try:
        with kept_random_state(), torch.no_grad():
            logits = trial(x)
    except Exception as error:  # whatever the user's own code raises
        return f"{type(error).__name__}: {error}"
    if not isinstance(logits, Tensor) or logits.shape[:1] != x.shape[:1]:
        return f"it answers with {getattr(logits, 'shape', type(logits).__name__)}"
    return ""


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """torch's thread count for a while; the operations read it too."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)
