"""`conv` and `conv_backward`: GFLOP/s beside a large `torch.mm` and torch's own convolutions.

    python -m pytest -q bench/bench_conv.py -s    # one row per layer and part in results/conv.csv

W1 is McMahan's CNN on 28 x 28 (B = 50), W4 the LeNet of FedGloSS on 3 x 32 x 32 (B = 64), thin the
Fashion-MNIST network of FedFSA. All take turns; dx is the difference of two backwards. With
more than one thread the operation gives each thread whole clients, torch its own threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

import pytest
import torch
from alternate import Action
from fedfast.kernels import conv, conv_backward
from harness import alternate_cold
from result_files import append, stamp
from torch import Tensor
from torch.nn import functional as F

K = 4
SIDE = 1024  # of the large product


@dataclass(frozen=True)
class ConvLayer:
    """A convolution of K clients."""

    batch: int
    channels: int
    side: int
    outputs: int
    kernel: int
    padding: int = 0

    @property
    def positions(self) -> int:
        """Results of one channel, OH * OW."""
        return (self.side + 2 * self.padding - self.kernel + 1) ** 2

    @property
    def gflop(self) -> float:
        """Of one product: forward, dx or dw."""
        depth = self.channels * self.kernel**2
        return 2e-9 * K * self.batch * self.outputs * self.positions * depth


LAYERS = {
    "W1-first": ConvLayer(50, 1, 28, 32, 5, 2),
    "W1-second": ConvLayer(50, 32, 14, 64, 5, 2),
    "W4-first": ConvLayer(64, 3, 32, 64, 5),
    "W4-second": ConvLayer(64, 64, 14, 64, 5),
    "thin-first": ConvLayer(50, 1, 28, 4, 5),
    "thin-second": ConvLayer(50, 4, 12, 12, 5),
    "3x3": ConvLayer(32, 64, 16, 64, 3, 1),
}


@dataclass(frozen=True)
class ConvTiming:
    """A layer's tensors and the actions that are timed on them."""

    layer: ConvLayer
    x: Tensor
    weight: Tensor
    out: Tensor
    dout: Tensor
    dx: Tensor
    dweight: Tensor

    @classmethod
    def of(cls, layer: ConvLayer) -> ConvTiming:
        """Random numbers."""
        x = torch.randn(K, layer.batch, layer.channels, layer.side, layer.side)
        weight = torch.randn(K, layer.outputs, layer.channels, layer.kernel, layer.kernel)
        out = conv(x, weight, padding=layer.padding)
        spare = torch.empty_like(x), torch.empty_like(weight)
        return cls(layer, x, weight, out, torch.randn_like(out), *spare)

    def forward(self) -> None:
        """All clients' outputs."""
        conv(self.x, self.weight, padding=self.layer.padding, out=self.out)

    def backward(self, dx: Tensor | None) -> None:
        """Weight gradients, and dx where a buffer is given."""
        tensors = self.x, self.weight, self.out, self.dout
        conv_backward(*tensors, padding=self.layer.padding, dx=dx, dweight=self.dweight)

    def torch_forward(self) -> None:
        """Client by client, as torch's autograd would call it."""
        for k in range(K):
            F.conv2d(self.x[k], self.weight[k], padding=self.layer.padding)

    def torch_backward(self, wanted: list[bool]) -> None:
        """The same; `wanted`: dx, dw, db."""
        p = self.layer.padding
        for k in range(K):
            torch.ops.aten.convolution_backward(
                self.dout[k], self.x[k], self.weight[k], None,
                [1, 1], [p, p], [1, 1], False, [0, 0], 1, wanted,
            )  # fmt: skip


def actions(c: ConvTiming) -> dict[str, Action]:
    """Everything that is timed."""
    a, b, product = (torch.randn(SIDE, SIDE) for _ in range(3))
    return {
        "mm": lambda: torch.mm(a, b, out=product),
        "forward": c.forward,
        "dw": lambda: c.backward(None),
        "both": lambda: c.backward(c.dx),
        "torch-forward": c.torch_forward,
        "torch-dx": lambda: c.torch_backward([True, False, False]),
        "torch-dw": lambda: c.torch_backward([False, True, False]),
    }


def rates(layer: ConvLayer, seconds: dict[str, list[float]]) -> dict[str, float]:
    """GFLOP/s by part."""
    spent = {name: median(values) for name, values in seconds.items()}
    spent["dx"] = max(spent.pop("both") - spent["dw"], 1e-9)
    mm = 2e-9 * SIDE**3 / spent.pop("mm")
    return {name: layer.gflop / value for name, value in spent.items()} | {"mm": mm}


@pytest.mark.parametrize("name", LAYERS)
def test_conv(name: str, threads: int, benchmark: Any) -> None:
    """One line per part."""
    torch.set_num_threads(threads)
    timing = ConvTiming.of(LAYERS[name])
    found = rates(timing.layer, alternate_cold(actions(timing)))
    benchmark.extra_info.update(found)
    benchmark.pedantic(timing.forward, rounds=5, warmup_rounds=1)
    print(f"\n{name} x{threads}: mm {found['mm']:.0f} GFLOP/s", end="")
    for part in ("forward", "dx", "dw"):
        own, torchs = found[part], found[f"torch-{part}"]
        print(f"; {part} {own:.0f} ({own / found['mm']:.0%}), torch {torchs:.0f}", end="")
        record(name, threads, part, own, torchs, found["mm"])
    print()


def record(layer: str, threads: int, part: str, own: float, torchs: float, mm: float) -> None:
    """Add a row to conv.csv."""
    figures = {
        "clients": K,
        "layer": layer,
        "part": part,
        "gflop_per_s": round(own, 1),
        "torch_gflop_per_s": round(torchs, 1),
        "mm_gflop_per_s": round(mm, 1),
        "ratio_mm": round(own / mm, 3),
        "ratio_torch": round(own / torchs, 2),
    }
    append("conv", stamp(threads) | figures)
