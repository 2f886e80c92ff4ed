"""The generic path: any module's gradients, client by client, through autograd.

It asks nothing of the module and gives every client its own arithmetic: a batch is never padded or joined with
another client's, threads own whole clients, and each (seed, round, client, step) seeds its own dropout. So what a
client computes cannot depend on its company. It is the slow path; its results are what faster ones are held to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .layout import FlatLayout

Loss = Callable[[Tensor, Tensor], Tensor]

EVALUATION_BATCH = 512


class GenericPath:
    """Gradients and evaluation of a module whose tensors live in rows.

    module   any `nn.Module`; it is copied, once per worker
    loss     (logits, targets) -> scalar mean over the batch
    threads  workers, each with one intra-operation thread
    random   True if the module draws random numbers in training: then one worker, seeded before each forward
    """

    def __init__(
        self, module: nn.Module, layout: FlatLayout, loss: Loss, threads: int, random: bool
    ) -> None:
        self.layout, self.loss, self.random = layout, loss, random
        self.workers = 1 if random else threads
        self.replicas = [deepcopy(module).train() for _ in range(self.workers)]
        self.judges = [deepcopy(module).eval() for _ in range(threads)]
        self.pool = ThreadPoolExecutor(
            threads, "fedfast", initializer=lambda: torch.set_num_threads(1)
        )

    def gradients(
        self,
        w: Tensor,
        carried: Tensor,
        x: Tensor,
        y: Tensor,
        count: Sequence[int],
        g: Tensor,
        losses: Tensor,
        seeds: Sequence[int] | None,
        keep_carried: bool,
    ) -> None:
        """Write each client's mini-batch gradient and loss.

        w        [K, >= trained]  models; row stride 0 where all share one
        carried  [K, S]           rows whose tail holds buffers; forward passes update them unless `keep_carried`
        x, y     [K, B, ...], [K, B]; client k uses the first count[k] of its batch
        g        [K, >= trained]  out, `g[:, :trained]`
        losses   [K]              out
        seeds    per client, for modules that draw random numbers
        """

        def work(worker: int) -> None:
            for k in range(worker, len(count), self.workers):
                if seeds is not None:
                    torch.manual_seed(seeds[k])
                tail = self._tail(carried[k], keep_carried)
                batch = (x[k, : count[k]], y[k, : count[k]])
                losses[k] = self._backward(self.replicas[worker], w[k], tail, batch, g[k])

        list(self.pool.map(work, range(self.workers)))

    def _tail(self, row: Tensor, keep: bool) -> dict[str, Tensor]:
        """The carried tensors of one client; copies where the forward pass must not move them."""
        views = self.layout.views(row)
        tail = {s.name: views[s.name] for s in self.layout.slots if not s.trained}
        return {name: t.clone() for name, t in tail.items()} if keep else tail

    def _backward(
        self,
        replica: nn.Module,
        row: Tensor,
        tail: dict[str, Tensor],
        batch: tuple[Tensor, Tensor],
        g: Tensor,
    ) -> Tensor:
        names = self.layout.views(row, trained_only=True)
        leaves = {name: view.detach().requires_grad_() for name, view in names.items()}
        loss = self.loss(functional_call(replica, {**leaves, **tail}, (batch[0],)), batch[1])
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        for view, gradient in zip(self.layout.views(g, True).values(), found, strict=True):
            view.zero_() if gradient is None else view.copy_(gradient)
        return loss.detach()

    @torch.no_grad()
    def evaluate(self, row: Tensor, x: Tensor, y: Tensor) -> tuple[float, float]:
        """(accuracy, mean loss) of one model. row: [S]; x: [n, ...]; y: [n]."""
        tensors = self.layout.views(row)
        starts = range(0, len(y), EVALUATION_BATCH)

        def work(worker: int) -> list[tuple[int, float, int]]:
            with torch.no_grad():
                return [
                    self._judge(self.judges[worker], tensors, x, y, starts[i])
                    for i in range(worker, len(starts), len(self.judges))
                ]

        parts = sorted(p for found in self.pool.map(work, range(len(self.judges))) for p in found)
        correct = sum(part[2] for part in parts)
        return correct / len(y), sum(part[1] for part in parts) / len(y)

    def _judge(
        self, judge: nn.Module, tensors: dict[str, Tensor], x: Tensor, y: Tensor, start: int
    ) -> tuple[int, float, int]:
        """(start, summed loss, correct predictions) of one slice of the test set."""
        part, target = x[start : start + EVALUATION_BATCH], y[start : start + EVALUATION_BATCH]
        logits = functional_call(judge, tensors, (part,))
        loss = float(self.loss(logits, target)) * len(target)
        return start, loss, int((logits.argmax(dim=1) == target).sum())


def probe(module: nn.Module, x: Tensor) -> tuple[int, bool]:
    """(number of classes, whether training draws random numbers), from one forward pass over `x` [n, ...].

    Raises ValueError if the module cannot take the data or does not answer with `[n, classes]`.
    """
    trial = deepcopy(module).to(device=x.device, dtype=x.dtype).train()
    before = torch.get_rng_state(), *_device_states(x)
    try:
        with torch.no_grad():
            logits = trial(x)
    except Exception as error:
        raise ValueError(
            f"model: it cannot take data of shape {list(x.shape)} ({type(error).__name__}: {error})"
        ) from error
    after = torch.get_rng_state(), *_device_states(x)
    drew = any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    torch.set_rng_state(before[0])
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"model: expected logits [{len(x)}, classes]; got {found}")
    return logits.shape[1], drew


def _device_states(x: Tensor) -> list[Tensor]:
    return [torch.cuda.get_rng_state(x.device)] if x.device.type == "cuda" else []
