"""The largest eigenvalues of K clients' Hessians beside PyHessian's: `bench_eigenvalues.py`.

    --only W1,W2      some of the workloads
    --samples 50,500  of each client
    --top 1,5         eigenvalues of each
    --rounds 1        timed turns, the first of all is one of them
    --trained 100     SGD steps that models take first
    --threads 2       of torch
    --write           keep a row for each in results/eigenvalues.csv

fedfast  `Hessian(...).eigenvalues(top, tol=1e-3)` of all clients at once, from scratch
loop     power iteration with deflation, to 1e-3, client after client; every product is made of the
         client's batches anew, as PyHessian does with `dataloader=`
kept     the same, all samples in one batch whose graph is kept, as PyHessian does with `data=`
A ratio is over the median of fedfast; `error` is the largest distance of an eigenvalue to one of a
Lanczos run to 1e-6, of the largest. With one thread times are its own, which do not count what
other processes take. Samples are random, with labels that a linear map of them gives.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from alternate import Usage, alternate, torch_threads
from bench_hessian import Vectors, batched, gradients
from power_iteration import largest
from result_files import append, compared, stamp
from sizes import pick
from torch import nn
from workloads import BY_NAME, CLASSES, Workload

from fedfast.data import Samples
from fedfast.layout import FlatLayout
from fedfast.metrics import Hessian

TOL = 1e-3
Values = list[list[float]]  # of each client


class Clients:
    """Models and samples, and what finds their eigenvalues."""

    def __init__(self, work: Workload, samples: int, trained: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.work, count = work, pick(work.cohort, 2)
        x = torch.randn(count, samples, *work.shape, generator=generator)
        true = torch.randn(x[0, 0].numel(), CLASSES, generator=generator)
        y = (x.flatten(2) @ true).argmax(2)
        self.samples = [Samples(x[k], y[k]) for k in range(count)]
        self.modules = [_fitted(work.module(), own, trained) for own in self.samples]
        self.layout = FlatLayout.of(self.modules[0])
        self.rows = torch.stack([self.layout.flatten(m) for m in self.modules])
        self.found: dict[str, Values] = {}
        self.products: dict[str, int] = {}

    def fedfast(self, name: str, top: int, tol: float) -> None:
        """Ours."""
        given = self.modules[0], self.samples
        hessian = Hessian(*given, rows=self.rows, layout=self.layout)
        found = hessian.eigenvalues(top, tol=tol)
        self.found[name] = found.values.tolist()
        self.products[name] = int(found.steps.sum())

    def power(self, name: str, top: int, keeps: bool) -> None:
        """Power iteration of client after client."""
        self.found[name], self.products[name] = [], 0
        for module, samples in zip(self.modules, self.samples, strict=True):
            weights = list(module.parameters())
            product = _kept(module, samples) if keeps else self._anew(module, samples)
            generator = torch.Generator().manual_seed(1)
            values, products = largest(product, weights, top, TOL, generator=generator)
            self.found[name].append(values)
            self.products[name] += products

    def _anew(self, module: nn.Module, samples: Samples) -> Callable[[Vectors], Vectors]:
        return partial(batched, module, samples, self.work.batch)

    def error(self, name: str) -> float:
        """Of the largest eigenvalue; power iteration may find others in another order."""
        pairs = zip(self.found[name], self.found["exact"], strict=True)
        return max(min(abs(v - e) for e in exact) / exact[0] for f, exact in pairs for v in f[:1])


def _kept(module: nn.Module, samples: Samples) -> Callable[[Vectors], Vectors]:
    weights, g = list(module.parameters()), gradients(module, samples.x, samples.y)
    return lambda v: list(torch.autograd.grad(g, weights, v, retain_graph=True))


def _fitted(module: nn.Module, samples: Samples, steps: int) -> nn.Module:
    generator = torch.Generator().manual_seed(2)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    for _ in range(steps):
        part = samples.take(torch.randint(len(samples), (50,), generator=generator))
        optimizer.zero_grad()
        F.cross_entropy(module(part.x), part.y).backward()
        optimizer.step()
    return module


def measure(
    work: Workload, samples: int, top: int, options: argparse.Namespace
) -> dict[str, object]:
    """The row of one workload."""
    clients = Clients(work, samples, options.trained)
    actions = {
        "fedfast": partial(clients.fedfast, "fedfast", top, TOL),
        "loop": partial(clients.power, "loop", top, False),
        "kept": partial(clients.power, "kept", top, True),
    }
    before = Usage.now()
    clock = time.thread_time if options.threads == 1 else time.perf_counter
    seconds = alternate(actions, options.rounds, warm_up=0, clock=clock)
    elsewhere = Usage.now().elsewhere(before)
    clients.fedfast("exact", top, 1e-6)
    found: dict[str, object] = {"workload": work.name, "clients": len(clients.modules)}
    found |= {"samples": samples, "batch": work.batch, "trained": options.trained, "top": top}
    found |= {"rounds": options.rounds}
    found |= compared(seconds, 1)
    for name in seconds:
        found[f"{name}_products"] = clients.products[name]
        found[f"{name}_error"] = f"{clients.error(name):.1e}"
    return found | {"elsewhere": f"{elsewhere:.2f}"}


def main(argv: list[str] | None = None) -> None:
    """Compare the workloads asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=pick("W1,W2", "W2"))
    parser.add_argument("--samples", default=pick("50,500", "4"))
    parser.add_argument("--top", default="1,5")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--trained", type=int, default=pick(100, 1))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(argv)
    for name in options.only.split(","):
        for samples in map(int, options.samples.split(",")):
            for top in map(int, options.top.split(",")):
                with torch_threads(options.threads):
                    found = measure(BY_NAME[name], samples, top, options)
                row = stamp(options.threads) | found
                print(row, flush=True)
                if options.write:
                    append("eigenvalues", row)


if __name__ == "__main__":
    main()
