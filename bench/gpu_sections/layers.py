"""Layers, as shares of a large product's rate, beside torch's own for the same work.

Those are batched products, cuDNN's grouped convolutions, and a loop over the clients.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fedfast import kernels
from gpu_sections.campaign import Action, Campaign, normal, rate, ratio
from gpu_sections.ceilings import product_rate, scaled, tf32

PRECISIONS = ("tf32x3", "tf32", "fp32")  # the default, and what it lies between
DENSE = {"W2 first": (50, 784, 200), "W3 first": (10, 784, 200), "W1 third": (50, 3136, 512)}
CONVS = {
    "W1 first": (50, 1, 28, 32, 5, 2),
    "W1 second": (50, 32, 14, 64, 5, 2),
    "W4 first": (64, 3, 32, 64, 5, 0),
    "W4 second": (64, 64, 14, 64, 5, 0),
    "ResNet 3x3": (32, 64, 16, 64, 3, 1),
}


@dataclass(frozen=True)
class Shape:
    """A convolution of K clients."""

    batch: int
    channels: int
    side: int
    outputs: int
    kernel: int
    padding: int

    @property
    def flops(self) -> float:
        """Of one client's product: forward, dx or dw."""
        positions = (self.side + 2 * self.padding - self.kernel + 1) ** 2
        return 2.0 * self.batch * positions * self.outputs * self.channels * self.kernel**2


def run(campaign: Campaign, clients: int) -> None:
    """All layers of `clients` models."""
    small = campaign.rehearsal
    for name, size in list(DENSE.items())[: 1 if small else None]:
        with campaign.trying(f"{name}, K = {clients}"):
            _dense(campaign, clients, name, *((3, 5, 4) if small else size))
    for name, sizes in list(CONVS.items())[: 1 if small else None]:
        with campaign.trying(f"{name}, K = {clients}"):
            _conv(campaign, clients, name, Shape(2, 2, 6, 4, 3, 1) if small else Shape(*sizes))


def _dense(
    campaign: Campaign, clients: int, name: str, batch: int, inputs: int, outputs: int
) -> None:
    x = normal(campaign, clients, batch, inputs)
    weight = normal(campaign, clients, outputs, inputs)
    bias, dout = normal(campaign, clients, outputs), normal(campaign, clients, batch, outputs)
    out, dx, dweight = torch.empty_like(dout), torch.empty_like(x), torch.empty_like(weight)
    dbias, flops = torch.empty_like(bias), 2.0 * clients * batch * inputs * outputs
    for precision in PRECISIONS:

        def forward(_: int, precision: str = precision) -> None:
            kernels.linear(x, weight, bias, out=out, precision=precision, backend="triton")

        def backward(_: int, precision: str = precision) -> None:
            kernels.linear_backward(
                x, weight, out, dout, dx=dx, dweight=dweight, dbias=dbias,
                precision=precision, backend="triton",
            )  # fmt: skip

        subject = f"linear {name}, K = {clients}, {precision}"
        with tf32(precision == "tf32"):
            theirs = campaign.seconds(lambda _: torch.baddbmm(bias[:, None], x, weight.mT))
            both = campaign.seconds(lambda _: (torch.bmm(dout, weight), torch.bmm(dout.mT, x)))
        _compared(campaign, f"{subject} forward", flops, forward, {"bmm": theirs}, precision)
        _compared(campaign, f"{subject} backward", 2 * flops, backward, {"bmm": both}, precision)


def _conv(campaign: Campaign, clients: int, name: str, shape: Shape) -> None:
    x = normal(campaign, clients, shape.batch, shape.channels, shape.side, shape.side)
    weight = normal(campaign, clients, shape.outputs, shape.channels, *[shape.kernel] * 2)
    pad, flops = shape.padding, clients * shape.flops
    out = kernels.conv(x, weight, padding=pad, backend="triton")
    dout, dx, dweight = torch.randn_like(out), torch.empty_like(x), torch.empty_like(weight)
    grouped = _Grouped(x, weight, dout, pad)
    for precision in PRECISIONS:

        def forward(_: int, precision: str = precision) -> None:
            kernels.conv(x, weight, padding=pad, out=out, precision=precision, backend="triton")

        def backward(_: int, precision: str = precision) -> None:
            kernels.conv_backward(
                x, weight, out, dout, padding=pad, dx=dx, dweight=dweight,
                precision=precision, backend="triton",
            )  # fmt: skip

        subject = f"conv {name}, K = {clients}, {precision}"
        with tf32(precision == "tf32"):
            ahead = {
                "grouped": campaign.seconds(lambda _: grouped.forward()),
                "loop": campaign.seconds(
                    lambda _: [F.conv2d(a, w, padding=pad) for a, w in zip(x, weight, strict=True)]
                ),
            }
            back = {"grouped": campaign.seconds(lambda _: grouped.backward())}
        _compared(campaign, f"{subject} forward", flops, forward, ahead, precision)
        _compared(campaign, f"{subject} backward", 2 * flops, backward, back, precision)


class _Grouped:
    """All clients as one convolution with K groups, as torch's vmap makes it."""

    def __init__(self, x: Tensor, weight: Tensor, dout: Tensor, padding: int) -> None:
        self.x, self.dout = (t.transpose(0, 1).flatten(1, 2).contiguous() for t in (x, dout))
        self.weight, self.groups, self.pad = weight.flatten(0, 1), len(x), padding

    def forward(self) -> Tensor:
        """[B, K * O, ...]"""
        return F.conv2d(self.x, self.weight, padding=self.pad, groups=self.groups)

    def backward(self) -> object:
        """Gradients of input and weight."""
        return torch.ops.aten.convolution_backward(
            self.dout, self.x, self.weight, None, [1, 1], [self.pad] * 2, [1, 1], False, [0, 0],
            self.groups, [True, True, False],
        )  # fmt: skip


def _compared(
    campaign: Campaign,
    subject: str,
    flops: float,
    action: Action,
    others: dict[str, float | None],
    precision: str,
) -> None:
    """Our rate, its share of a large product's, and how many times as long others take."""
    seconds = campaign.seconds(action)
    found = rate(flops, seconds)
    campaign.row(subject, "rate", scaled(found, 1e12), "TFLOP/s")
    campaign.row(subject, "share", ratio(found, product_rate(campaign, precision)), "of product")
    many = f"K = {campaign.pick(100, 2)}," in subject
    for name, theirs in others.items():
        campaign.row(subject, f"beside {name}", ratio(theirs, seconds), "times", headline=many)
