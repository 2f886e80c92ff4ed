"""Products with K clients' Hessians beside double backward: `python bench/bench_hessian.py`.

    --only W1,W2      some of the workloads
    --samples 50,500  of each client
    --rounds 5        timed turns
    --threads 2       of torch
    --write           keep a row per workload and number of samples in results/hessian.csv

fedfast  the products of all clients of a cohort at once, as `Hessian` makes them for its solvers
vector   the same of vectors over the parameters: slower where solvers work in the coordinates of
         the samples' span (`fedfast.metrics.hessian.reduction`)
loop     client after client, batch after batch of the workload's size: forward, backward, double
         backward, as PyHessian does with `dataloader=`
kept     client after client, all samples in one batch whose graph is kept from product to product,
         as PyHessian does with `data=`; a client's graph is made outside of the time
A ratio is over the median of fedfast. With one thread times are its own, which do not count what
other processes take.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from alternate import Usage, alternate, torch_threads
from result_files import append, compared, stamp
from sizes import pick
from torch import Tensor, nn
from workloads import BY_NAME, CLASSES, Workload

from fedfast.data import Samples
from fedfast.layout import FlatLayout
from fedfast.metrics.hessian import product_for
from fedfast.metrics.hessian.spaces import Problem

Vectors = list[Tensor]  # a part for each parameter
Product = Callable[[], object]


def gradients(module: nn.Module, x: Tensor, y: Tensor) -> Vectors:
    """Of the mean loss, with their graph."""
    loss = F.cross_entropy(module(x), y)
    return list(torch.autograd.grad(loss, list(module.parameters()), create_graph=True))


def batched(module: nn.Module, samples: Samples, batch: int, v: Vectors) -> Vectors:
    """One client's product, batch after batch."""
    weights = list(module.parameters())
    total = [torch.zeros_like(w) for w in weights]
    for start in range(0, len(samples), batch):
        part = samples.take(slice(start, start + batch))
        found = torch.autograd.grad(gradients(module, part.x, part.y), weights, v)
        total = [t + h * float(len(part)) for t, h in zip(total, found, strict=True)]
    return [t / len(samples) for t in total]


def contestants(work: Workload, clients: int, samples: int) -> dict[str, Product]:
    """What takes turns."""
    modules, generator = [work.module() for _ in range(clients)], torch.Generator().manual_seed(0)
    layout = FlatLayout.of(modules[0])
    rows = torch.stack([layout.flatten(module) for module in modules])
    own = [
        Samples(
            torch.randn(samples, *work.shape, generator=generator),
            torch.randint(CLASSES, (samples,), generator=generator),
        )
        for _ in range(clients)
    ]
    v = torch.randn(rows.shape, generator=generator)
    parts = [list(layout.views(row, trained_only=True).values()) for row in v]
    each = list(zip(modules, own, parts, strict=True))
    graphs = [gradients(module, s.x, s.y) for module, s, _ in each]

    def kept() -> None:
        for g, (module, _, part) in zip(graphs, each, strict=True):
            torch.autograd.grad(g, list(module.parameters()), part, retain_graph=True)

    problem = Problem(modules[0], layout, "cross_entropy", rows, own, batch=500)
    (space,), vector = problem.spaces(), product_for(modules[0], layout, "cross_entropy", rows, own)
    products = space.products
    some = torch.randn(clients, products.parameters, generator=generator)
    along, active = products.rows(list(some)), [True] * clients
    return {
        "fedfast": partial(products.of_rows, along, torch.empty_like(along), active),
        "vector": partial(vector, v),
        "loop": lambda: [batched(module, s, work.batch, part) for module, s, part in each],
        "kept": kept,
    }


def measure(work: Workload, samples: int, rounds: int) -> dict[str, object]:
    """The row of one workload and number of samples."""
    clients = pick(work.cohort, 2)
    made = contestants(work, clients, samples)
    before = Usage.now()
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds = alternate(made, rounds, clock=clock)
    found: dict[str, object] = {"workload": work.name, "clients": clients, "samples": samples}
    found |= {"batch": work.batch, "rounds": rounds}
    return found | compared(seconds, 2) | {"elsewhere": f"{Usage.now().elsewhere(before):.2f}"}


def main(argv: list[str] | None = None) -> None:
    """Compare the workloads asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=pick("W1,W2", "W2"))
    parser.add_argument("--samples", default=pick("50,500", "4"))
    parser.add_argument("--rounds", type=int, default=pick(5, 1))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(argv)
    for name in options.only.split(","):
        for samples in map(int, options.samples.split(",")):
            with torch_threads(options.threads):
                found = measure(BY_NAME[name], samples, options.rounds)
            row = stamp(options.threads) | found
            print(row, flush=True)
            if options.write:
                append("hessian", row)


if __name__ == "__main__":
    main()
