"""The generic path: any module's gradients, client by client, through autograd.

It asks nothing of the module and gives every client its own arithmetic: a batch is never padded or
joined with another client's, a client's step runs on one thread, and each (seed, round, client,
step) seeds its own dropout. So what a client computes cannot depend on its company. It is the slow
path; its results are what faster ones are held to.
"""

from __future__ import annotations

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
from .copies import copy_of, parameter_hooks
from .data import Samples
from .feed import View
from .isolation import kept_random_state, restore, same, seed_all, states
from .layout import FlatLayout
from .network import Loss, Weighted, run_loss
from .random import EVALUATION, keys64

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


class GenericPath:
    """Gradients and evaluation of a module whose tensors live in rows.

    module   any `nn.Module`; it is copied, once per worker
    loss     (logits, targets) -> scalar mean over the batch
    threads  for clients side by side, each on one intra-operation thread
    traits   what `probe` found out about the module
    seed     keys the random numbers of modules that draw some in evaluation
    """

    def __init__(
        self,
        module: nn.Module,
        layout: FlatLayout,
        loss: Loss,
        threads: int,
        traits: Traits,
        seed: int = 0,
    ) -> None:
        self.seed = int(keys64(seed, 0, 0, EVALUATION, 1)[0] >> 1)
        self.hooks = parameter_hooks(module)
        self.layout, self.loss, self.random = layout, loss, traits.random
        # Short steps are all interpreter, which serves one thread at a time; random numbers come
        # from one global generator. Which thread computes a client never changes its result.
        alone = traits.random or traits.seconds < WORTH_A_THREAD
        self.workers = 1 if alone else threads
        self.replicas = [copy_of(module).train() for _ in range(self.workers)]
        self.judges = [copy_of(module).eval() for _ in range(self.workers)]
        self.pool = ThreadPoolExecutor(
            self.workers, "fedfast", initializer=lambda: torch.set_num_threads(1)
        )
        self._views: dict[tuple[int, int, int, bool], dict[str, Tensor]] = {}

    def _each_worker(self, work: Callable[[int], T]) -> list[T]:
        """Run `work(worker)` for all workers, every one on a single intra-operation thread."""
        if self.workers > 1:
            return list(self.pool.map(work, range(self.workers)))
        with torch_threads(1):
            return [work(0)]

    def _row(self, bank: Tensor, k: int, trained: bool) -> dict[str, Tensor]:
        """Views of row k; the live buffers last as long as the run, so these are made once."""
        key = bank.data_ptr(), bank.stride(0), k, trained
        if key not in self._views:
            self._views[key] = self.layout.views(bank[k], trained)
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

        self._each_worker(work)

    def _tail(self, views: dict[str, Tensor], keep: bool) -> dict[str, Tensor]:
        """The carried tensors of one client; copies where the forward pass must not move them."""
        tail = {s.name: views[s.name] for s in self.layout.slots if not s.trained}
        return {name: t.clone() for name, t in tail.items()} if keep else tail

    def _network(
        self, worker: int, tensors: dict[str, Tensor], seeds: Seeds | None, k: int
    ) -> Weighted:
        seed = None if seeds is None else int(seeds[k])
        return Weighted(self.replicas[worker], tensors, self.layout, self.loss, seed)

    def _backward(
        self, loss: Tensor, model: dict[str, Tensor], gradient: dict[str, Tensor]
    ) -> None:
        found = torch.autograd.grad(loss, list(model.values()), allow_unused=True)
        for view, part in zip(gradient.values(), found, strict=True):
            view.zero_() if part is None else view.copy_(part)

    @torch.no_grad()
    def evaluate(self, row: Tensor, samples: Samples) -> tuple[float, float]:
        """(accuracy, mean loss) of one model. row: [S]."""
        tensors = self.layout.views(row)
        starts = range(0, len(samples), EVALUATION_BATCH)

        def work(worker: int) -> list[tuple[int, float, int]]:
            with torch.no_grad():
                return [
                    self._judge(self.judges[worker], tensors, samples, starts[i])
                    for i in range(worker, len(starts), self.workers)
                ]

        with kept_random_state():
            parts = sorted(part for found in self._each_worker(work) for part in found)
        correct = sum(part[2] for part in parts)
        return correct / len(samples), sum(part[1] for part in parts) / len(samples)

    @torch.no_grad()
    def predict(self, jobs: Sequence[tuple[Callable[[], Tensor], Samples]]) -> list[Tensor]:
        """The predicted classes [n] of every job: (what returns a model's row [S], samples)."""

        def logits(worker: int, row: Tensor, samples: Samples) -> Tensor:
            x = samples.inputs(self.layout.dtype)
            self._reseed(0)
            return functional_call(self.judges[worker], self.layout.views(row), (x,))

        def work(worker: int) -> list[Tensor]:
            mine = jobs[worker :: self.workers]
            with torch.no_grad():
                return [logits(worker, row(), samples).argmax(dim=1) for row, samples in mine]

        with kept_random_state():
            found = self._each_worker(work)
        return [found[i % self.workers][i // self.workers] for i in range(len(jobs))]

    def _reseed(self, start: int) -> None:
        """The same numbers at every evaluation."""
        if self.random:
            seed_all(self.seed ^ start)

    def _judge(
        self, judge: nn.Module, tensors: dict[str, Tensor], samples: Samples, start: int
    ) -> tuple[int, float, int]:
        """(start, summed loss, correct predictions) of one slice of the test set."""
        part = samples.take(slice(start, start + EVALUATION_BATCH))
        self._reseed(start)
        logits = functional_call(judge, tensors, (part.inputs(self.layout.dtype),))
        loss = float(self.loss(logits, part.y)) * len(part)
        return start, loss, int((logits.argmax(dim=1) == part.y).sum())


@dataclass(frozen=True)
class Traits:
    """What a trial step tells: the outputs, whether random numbers were drawn, its seconds."""

    classes: int
    random: bool
    seconds: float


def probe(module: nn.Module, x: Tensor) -> Traits:
    """One forward and backward pass over `x` [n, ...] on a copy of the module.

    Raises ValueError if the module cannot take the data or does not answer with `[n, classes]`.
    """
    dtype = x.dtype if x.is_floating_point() else None  # tokens say nothing about the module's
    trial = copy_of(module).to(device=x.device, dtype=dtype).train()
    before = states()
    begin = time.perf_counter()
    try:
        with torch.enable_grad():
            logits = trial(x)
        with torch.no_grad():
            trial.eval()(x)
        trial.train()
    except Exception as error:
        raise ValueError(
            f"model: it cannot take data of shape {list(x.shape)} ({type(error).__name__}: {error})"
        ) from error
    drew = not same(before, states())
    restore(before)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"model: expected logits [{len(x)}, classes]; got {found}")
    logits.sum().backward()
    return Traits(logits.shape[1], drew, time.perf_counter() - begin)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """torch's thread count for a while; the operations read it too."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
