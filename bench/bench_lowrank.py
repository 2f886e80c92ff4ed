"""SAM around one dense layer, and its clipped step: thin factors against the gradient written down.

    python bench/bench_lowrank.py [--write]      one thread; rows in bench/results/lowrank.csv

Both do what the two passes of `programs/sam.py` do for one layer, from the first
pass' gradients to the second's outputs and data gradients; the final weight gradient, which both
need, is left out. For the clip: those of `programs/clip.py`, from the output's gradient to the
moved weights. Plans run them client by client. They take turns; the least thread time of each
counts, so that other processes matter little. "rule" is what `is_thin` and
`is_late` choose.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from alternate import alternate
from fedfast.kernels import Plan, ghost, linear, linear_backward, lowrank, mix, reach, stats
from result_files import append, stamp
from torch import Tensor

from fedfast.programs.clip import is_late
from fedfast.programs.sam import is_thin

K, ROUNDS = 6, 15
# (I, O, whether it reads the samples) of the papers' MLPs and CNNs.
LAYERS = [(784, 200, True), (784, 10, True), (200, 200, False), (200, 10, False)]
LAYERS += [(192, 1024, False), (1024, 1024, False), (3136, 512, False), (512, 10, False)]
BATCHES = (10, 32, 50, 100, 200, 400)


class DenseLayer:
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
        gram = self.gram if self.samples else None
        if not self.samples:
            linear(self.x2, self.w, out=self.out)
        x, v = self.x if self.samples else self.x2, self.d
        lowrank(x, self.x, v, self.scale, base=self.out, gram=gram, out=self.out)
        self._data(self.d2)
        if not self.samples:
            lowrank(self.d2, self.d, self.x, self.scale, base=self.dx, out=self.dx)

    def clipped(self) -> None:
        """The gradient in g; then the step."""
        self._data(self.d, dweight=self.g)
        stats(self.g.flatten(1), out=self.sums)
        reach([self.sums[..., 0]], 1.0, 1e-6, most=1.0, out=self.scale)
        w = self.w.flatten(1)
        mix(w, self.g.flatten(1), b=self.scale, out=w)

    def late(self) -> None:
        """The norm; then the product, straight into the weights."""
        self._data(self.d)
        ghost(self.x, self.d, gram=self.gram, squares=self.squares[:, 0])
        reach([self.squares], 1.0, 1e-6, most=1.0, out=self.scale)
        to = dict(dweight=self.w, alpha=self.scale, beta=1.0)
        linear_backward(self.x, self.w, self.d, self.d, **to)

    def _data(self, d: Tensor, weight: Tensor | None = None, dweight: Tensor | None = None) -> None:
        dx = None if self.samples else self.dx
        linear_backward(self.x, self.w if weight is None else weight, d, d, dx=dx, dweight=dweight)


def recorded(body: Callable[[], None]) -> Plan:
    """The plan of `body`."""
    with Plan() as plan:
        body()
    return plan


def seconds(plans: list[Plan]) -> list[float]:
    """The least thread time of each for one client, taking turns."""
    actions = {str(i): partial(plan.run, K, 1) for i, plan in enumerate(plans)}
    return [min(spent) / K for spent in alternate(actions, ROUNDS, warm_up=0).values()]


def main() -> None:
    """All layers and batches."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="append rows to lowrank.csv")
    write = parser.parse_args().write
    torch.set_num_threads(1)
    for inputs, outputs, samples in LAYERS:
        for batch in BATCHES:
            layer, size = DenseLayer(batch, inputs, outputs, samples), (batch, inputs, outputs)
            comparisons = {
                "ascent": (layer.written, layer.factors, is_thin(*size, samples=samples)),
                "clip": (layer.clipped, layer.late, is_late(*size)),
            }
            for purpose, (one, other, rule) in comparisons.items():
                figures = {
                    "purpose": purpose,
                    "clients": K,
                    **dict(zip(("batch", "inputs", "outputs"), size, strict=True)),
                    "samples": samples,
                    **compared(*seconds([recorded(one), recorded(other)])),
                    "rule": "factors" if rule else "written",
                }
                show(figures)
                if write:
                    append("lowrank", stamp(1) | figures)


def compared(written: float, factors: float) -> dict[str, float]:
    """Both times, and the first over the second."""
    return {
        "written_us": round(1e6 * written, 1),
        "factors_us": round(1e6 * factors, 1),
        "ratio": round(written / factors, 3),
    }


def show(row: dict[str, Any]) -> None:
    """A line; the rule's mistakes are marked."""
    wrong = (row["rule"] == "factors") != (row["ratio"] > 1)
    print(
        f"{row['purpose']:6} B = {row['batch']:3d}, {row['inputs']:4d} -> {row['outputs']:4d} "
        f"{'samples' if row['samples'] else '':7}  written {row['written_us']:7.1f} us, factors "
        f"{row['factors_us']:7.1f} us, x {row['ratio']:5.2f}, rule {row['rule']}"
        f"{'  <- slower' if wrong else ''}",
        flush=True,
    )


if __name__ == "__main__":
    main()
