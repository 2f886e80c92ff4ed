"""SAM around one dense layer: its gradient as thin factors against the gradient written down.

    python bench/bench_lowrank.py [--write]      one thread; rows in bench/results/lowrank.csv

Both contestants do what the two passes of `programs/ascent.py` do for one layer, from the first
pass' gradients to the second's outputs and data gradients; the final weight gradient, which both
need, is left out. Plans run them client by client. They take turns; the least thread time of each
counts, so that other processes matter little. "rule" is what `is_thin` says.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from fedfast.kernels import Plan, ghost, linear, linear_backward, lowrank, mix, reach, stats
from ledger import append, stamp
from torch import Tensor

from fedfast.programs.ascent import is_thin

K, ROUNDS = 6, 15
# (I, O, whether it reads the samples) of the papers' MLPs and CNNs.
LAYERS = [(784, 200, True), (784, 10, True), (200, 200, False), (200, 10, False)]
LAYERS += [(192, 1024, False), (1024, 1024, False), (3136, 512, False), (512, 10, False)]
BATCHES = (10, 32, 50, 100, 200, 400)


class Layer:
    """One layer of K clients in both passes."""

    def __init__(self, batch: int, inputs: int, outputs: int, samples: bool) -> None:
        self.samples = samples
        self.x, self.d = torch.randn(K, batch, inputs), torch.randn(K, batch, outputs)
        self.x2, self.d2 = torch.randn_like(self.x), torch.randn_like(self.d)
        self.w = torch.randn(K, outputs, inputs) * inputs**-0.5
        self.g, self.w_adv = torch.zeros_like(self.w), torch.zeros_like(self.w)
        self.out, self.dx = torch.empty_like(self.d), torch.empty_like(self.x)
        self.gram, self.scale = torch.empty(K, batch, batch), torch.zeros(K)
        self.squares = torch.zeros(K, 1, dtype=torch.float64)
        self.sums = torch.zeros(K, 1, 5, dtype=torch.float64)

    def written(self) -> None:
        """The gradient in g, the perturbed weights in w_adv."""
        self._data(self.d, dweight=self.g)
        stats(self.g.flatten(1), out=self.sums)
        reach([self.sums[..., 0]], 0.05, 1e-12, out=self.scale)
        mix(self.w.flatten(1), self.g.flatten(1), b=self.scale, out=self.w_adv.flatten(1))
        linear(self.x if self.samples else self.x2, self.w_adv, out=self.out)
        self._data(self.d2, weight=self.w_adv)

    def factors(self) -> None:
        """Neither."""
        self._data(self.d)
        ghost(self.x, self.d, gram=self.gram, squares=self.squares[:, 0])
        reach([self.squares], 0.05, 1e-12, out=self.scale)
        known = self.gram if self.samples else None
        if not self.samples:
            linear(self.x2, self.w, out=self.out)
        x, v = self.x if self.samples else self.x2, self.d
        lowrank(x, self.x, v, self.scale, base=self.out, gram=known, out=self.out)
        self._data(self.d2)
        if not self.samples:
            lowrank(self.d2, self.d, self.x, self.scale, base=self.dx, out=self.dx)

    def _data(self, d: Tensor, weight: Tensor | None = None, dweight: Tensor | None = None) -> None:
        dx = None if self.samples else self.dx
        linear_backward(self.x, self.w if weight is None else weight, d, d, dx=dx, dweight=dweight)


def noted(body: Callable[[], None]) -> Plan:
    """The plan of `body`."""
    with Plan() as plan:
        body()
    return plan


def seconds(plans: list[Plan]) -> list[float]:
    """The least thread time of each for one client, taking turns."""
    best = [float("inf")] * len(plans)
    for _ in range(ROUNDS):
        for i, plan in enumerate(plans):
            begin = time.thread_time()
            plan.run(K, 1)
            best[i] = min(best[i], (time.thread_time() - begin) / K)
    return best


def main() -> None:
    """All layers and batches."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="append rows to lowrank.csv")
    write = parser.parse_args().write
    torch.set_num_threads(1)
    for inputs, outputs, samples in LAYERS:
        for batch in BATCHES:
            layer = Layer(batch, inputs, outputs, samples)
            written, factors = seconds([noted(layer.written), noted(layer.factors)])
            rule = is_thin(batch, inputs, outputs, samples=samples)
            print(
                f"B = {batch:3d}, {inputs:4d} -> {outputs:4d} {'samples' if samples else '':7}"
                f"  written {1e6 * written:7.1f} us, factors {1e6 * factors:7.1f} us, "
                f"x {written / factors:5.2f}, rule {'factors' if rule else 'written'}"
                f"{'' if rule == (factors < written) else '  <- slower'}",
                flush=True,
            )
            if write:
                record(batch, inputs, outputs, samples, written, factors, rule)


def record(
    batch: int,
    inputs: int,
    outputs: int,
    samples: bool,
    written: float,
    factors: float,
    rule: bool,
) -> None:
    """Append a row to lowrank.csv."""
    figures = {
        "clients": K,
        "batch": batch,
        "inputs": inputs,
        "outputs": outputs,
        "samples": samples,
        "written_us": round(1e6 * written, 1),
        "factors_us": round(1e6 * factors, 1),
        "ratio": round(written / factors, 3),
        "rule": "factors" if rule else "written",
    }
    append("lowrank", stamp(1) | figures)


if __name__ == "__main__":
    main()
