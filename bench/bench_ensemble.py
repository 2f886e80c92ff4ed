"""A step of K models on batches that come from outside, beside torch's ways to train them.

    fedfast  `fedfast.Ensemble.step`
    vmap     `torch.func.vmap` of `grad` over stacked parameters, step and update in one graph of
             `torch.compile`; "eager update": gradients compiled, the update beside them
    loop     K modules, K of torch's optimizers, one after another

    python bench/bench_ensemble.py [--threads 1 2] [--batches 10 32 50 128] [--optimizers sgd sam]
    --write  keep a row per size in results/ensemble.csv

MLP 784-200-10, K = 10, float32. Contestants take turns; one thread in CPU time, more in wall-clock
time. Prints a median in ms, and how many times as long the others take (median and 20 % to 80 %).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from alternate import alternate, torch_threads
from result_files import append, stamp
from sizes import pick
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

import fedfast
from fedfast.algorithms import SAM, SGD, Optimizer
from fedfast.ensemble import Adam

OPTIMIZERS: dict[str, Optimizer | Adam] = {
    "sgd": SGD(),
    "momentum": SGD(momentum=0.9),
    "sam": SAM(rho=0.05),
    "adam": Adam(),
}
LR, SLICE = 0.01, 4  # steps of a turn
MODELS = pick(10, 2)
Step = Callable[[Tensor, Tensor], object]


def net() -> nn.Module:
    """McMahan's 2NN with one hidden layer less."""
    return nn.Sequential(nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 10))


def ours(kind: str) -> Step:
    """One call."""
    return fedfast.Ensemble(net, MODELS, optimizer=OPTIMIZERS[kind], lr=LR).step


def vmapped(kind: str, whole: bool) -> Step:
    """Parameters stacked [K, ...]; whole: gradients and the update in one compiled graph."""
    modules = [net() for _ in range(MODELS)]
    stacked = {n: p.detach() for n, p in stack_module_state(modules)[0].items()}
    m, v = ({n: torch.zeros_like(p) for n, p in stacked.items()} for _ in range(2))
    optimizer, t = OPTIMIZERS[kind], torch.zeros(())

    def loss(p: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(modules[0], p, (x,)), y)

    def gradient(p: dict[str, Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
        g = grad(loss)(p, x, y)
        if not isinstance(optimizer, SAM):
            return g
        length = torch.stack([d.square().sum() for d in g.values()]).sum().sqrt()
        scale = optimizer.rho / (length + optimizer.eps)
        return grad(loss)({n: p[n] + scale * d for n, d in g.items()}, x, y)

    gradients = vmap(gradient) if whole else torch.compile(vmap(gradient), dynamic=False)

    @torch.no_grad()
    def step(x: Tensor, y: Tensor) -> None:
        t.add_(1)
        for n, d in gradients(stacked, x, y).items():
            if isinstance(optimizer, Adam):
                beta1, beta2 = optimizer.betas
                first, second = 1 - beta1**t, 1 - beta2**t
                m[n].lerp_(d, 1 - beta1)
                v[n].mul_(beta2).addcmul_(d, d, value=1 - beta2)
                d = m[n] / first / ((v[n] / second).sqrt() + optimizer.eps)
            elif optimizer.momentum:
                d = m[n].mul_(optimizer.momentum).add_(d)
            stacked[n].sub_(d, alpha=LR)

    return torch.compile(step, dynamic=False, fullgraph=True) if whole else step


def looped(kind: str) -> Step:
    """Model after model."""
    modules, optimizer = [net() for _ in range(MODELS)], OPTIMIZERS[kind]
    if isinstance(optimizer, Adam):
        optimizers = [torch.optim.Adam(m.parameters(), LR, fused=True) for m in modules]
    else:
        how = dict(momentum=optimizer.momentum, foreach=True)
        optimizers = [torch.optim.SGD(m.parameters(), LR, **how) for m in modules]

    def backward(m: nn.Module, x: Tensor, y: Tensor) -> None:
        m.zero_grad()
        F.cross_entropy(m(x), y).backward()

    def step(x: Tensor, y: Tensor) -> None:
        for m, own, batch, labels in zip(modules, optimizers, x, y, strict=True):
            backward(m, batch, labels)
            if isinstance(optimizer, SAM):
                with torch.no_grad():
                    parts = list(m.parameters())
                    before, g = [p.clone() for p in parts], [p.grad for p in parts]
                    norm = torch.stack(torch._foreach_norm(g)).norm()
                    torch._foreach_add_(parts, torch._foreach_mul(g, optimizer.rho / norm))
                backward(m, batch, labels)
                with torch.no_grad():
                    torch._foreach_copy_(parts, before)
            own.step()

    return step


CONTESTANTS: dict[str, Callable[[str], Step]] = {
    "fedfast": ours,
    "vmap": partial(vmapped, whole=True),
    "vmap, eager update": partial(vmapped, whole=False),
    "loop": looped,
}


def measured(kind: str, width: int, threads: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of a step of each contestant, turn by turn."""
    torch.compiler.reset()
    x, y = torch.randn(SLICE, MODELS, width, 784), torch.randint(10, (SLICE, MODELS, width))
    steps = {name: make(kind) for name, make in CONTESTANTS.items()}

    def action(step: Step) -> Callable[[], None]:
        def run() -> None:
            for batch, labels in zip(x, y, strict=True):
                step(batch, labels)

        return run

    clock = time.thread_time if threads == 1 else time.perf_counter
    with torch_threads(threads):
        found = alternate({n: action(s) for n, s in steps.items()}, rounds, 3, clock)
    return {name: [s / SLICE for s in seconds] for name, seconds in found.items()}


def main(argv: list[str] | None = None) -> None:
    """Prints a line for every size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batches", type=int, nargs="+", default=[10, 32, 50, 128])
    parser.add_argument("--optimizers", nargs="+", choices=OPTIMIZERS, default=[*OPTIMIZERS])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args(argv)
    print(f"{'optimizer':10} {'threads':>7} {'B':>4} {'fedfast ms':>10}   times as long")
    for kind in given.optimizers:
        for threads in given.threads:
            for width in given.batches:
                seconds = measured(kind, width, threads, given.rounds)
                own, ratios = _compared({n: np.array(s) for n, s in seconds.items()})
                told = ", ".join(f"{n} {r[0]:.2f} ({r[1]:.2f}-{r[2]:.2f})" for n, r in ratios)
                print(f"{kind:10} {threads:7} {width:4} {own:10.3f}   {told}", flush=True)
                if given.write:
                    found = {f"{n} ratio": round(float(r[0]), 3) for n, r in ratios}
                    sizes = dict(optimizer=kind, batch=width, rounds=given.rounds)
                    append("ensemble", stamp(threads) | sizes | {"median_ms": own} | found)


def _compared(seconds: dict[str, np.ndarray]) -> tuple[float, list[tuple[str, np.ndarray]]]:
    """(our median in ms, how many times as long others take: median, 20 % and 80 %)."""
    own = seconds.pop("fedfast")
    ratios = [(n, np.percentile(s / own, [50, 20, 80])) for n, s in seconds.items()]
    return round(1e3 * float(np.median(own)), 4), ratios


if __name__ == "__main__":
    main()
