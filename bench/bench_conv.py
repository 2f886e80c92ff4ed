"""`conv` and `conv_backward` beside torch's own convolutions, operands from memory.

W1 is McMahan's CNN on 28 x 28 (B = 50), W4 the LeNet of FedGloSS on 3 x 32 x 32 (B = 64), thin the
Fashion-MNIST network of FedFSA. "dw" is a first layer's backward pass, "backward" another's. With
two threads the operation gives each thread whole clients, torch its own threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from buffers import normal
from fedfast.kernels import conv, conv_backward
from marks import ONE_AND_TWO_THREADS, beside
from sizes import pick
from torch import Tensor
from torch.nn import functional as F

K = pick(4, 1)


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
    def flops(self) -> int:
        """Of one product: forward, dx or dw."""
        depth = self.channels * self.kernel**2
        return 2 * K * self.batch * self.outputs * self.positions * depth


LAYERS = {
    "W1-first": ConvLayer(50, 1, 28, 32, 5, 2),
    "W1-second": ConvLayer(50, 32, 14, 64, 5, 2),
    "W4-first": ConvLayer(64, 3, 32, 64, 5),
    "W4-second": ConvLayer(64, 64, 14, 64, 5),
    "thin-first": ConvLayer(50, 1, 28, 4, 5),
    "thin-second": ConvLayer(50, 4, 12, 12, 5),
    "3x3": ConvLayer(32, 64, 16, 64, 3, 1),
}
LAYERS = pick(LAYERS, {"W1-first": ConvLayer(2, 1, 8, 4, 5, 2), "3x3": ConvLayer(2, 4, 6, 4, 3, 1)})


class ConvTensors:
    """A layer's tensors, and what is timed on them."""

    def __init__(self, layer: ConvLayer) -> None:
        self.padding = layer.padding
        self.x = normal(K, layer.batch, layer.channels, layer.side, layer.side)
        self.weight = normal(K, layer.outputs, layer.channels, layer.kernel, layer.kernel)
        self.out = conv(self.x, self.weight, padding=layer.padding)
        self.dout = normal(*self.out.shape)
        self.dx, self.dweight = torch.empty_like(self.x), torch.empty_like(self.weight)

    def forward(self) -> None:
        """All clients' outputs."""
        conv(self.x, self.weight, padding=self.padding, out=self.out)

    def backward(self, dx: Tensor | None) -> None:
        """Weight gradients, and dx where a buffer is given."""
        tensors = self.x, self.weight, self.out, self.dout
        conv_backward(*tensors, padding=self.padding, dx=dx, dweight=self.dweight)

    def torch_forward(self) -> None:
        """Client by client, as torch's autograd would call it."""
        for k in range(K):
            F.conv2d(self.x[k], self.weight[k], padding=self.padding)

    def torch_backward(self, dx: bool) -> None:
        """The same."""
        p = self.padding
        for k in range(K):
            torch.ops.aten.convolution_backward(
                self.dout[k], self.x[k], self.weight[k], None,
                [1, 1], [p, p], [1, 1], False, [0, 0], 1, [dx, True, False],
            )  # fmt: skip


@ONE_AND_TWO_THREADS
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("part", ["forward", "dw", "backward"])
@beside("torch")
def test_conv(
    name: str, part: str, contestant: str, threads: int, benchmark: Any, cold: Any
) -> None:
    layer, c = LAYERS[name], ConvTensors(LAYERS[name])
    actions = {
        ("fedfast", "forward"): c.forward,
        ("fedfast", "dw"): lambda: c.backward(None),
        ("fedfast", "backward"): lambda: c.backward(c.dx),
        ("torch", "forward"): c.torch_forward,
        ("torch", "dw"): lambda: c.torch_backward(False),
        ("torch", "backward"): lambda: c.torch_backward(True),
    }
    benchmark.group = f"conv {name} {part}, threads: {threads}"
    benchmark.extra_info["flops"] = layer.flops * (2 if part == "backward" else 1)
    cold(actions[contestant, part])
