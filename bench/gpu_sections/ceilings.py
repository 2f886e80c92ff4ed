"""Section `ceilings`: what the device gives at most, which all other rates are shares of."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from functools import cache

import torch
from fedfast.kernels.library.settings import rounding

from gpu_sections.campaign import Campaign, rate

PRODUCTS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}


def tf32(allowed: bool) -> AbstractContextManager[None]:
    """Whether torch's products and convolutions of float32 may round their operands to TF32."""
    return rounding("tf32" if allowed else "fp32")


@cache
def _measured(device: torch.device, rehearsal: bool) -> dict[str, float | None]:
    return {}


def copy_rate(campaign: Campaign) -> float | None:
    """Bytes per second of a large copy, read and written."""
    found = _measured(campaign.device, campaign.rehearsal)
    if "copy" not in found:
        count = campaign.pick(2**28, 2**8)
        source, target = (torch.zeros(count, device=campaign.device) for _ in range(2))
        found["copy"] = rate(8.0 * count, campaign.seconds(lambda _: target.copy_(source)))
    return found["copy"]


def product_rate(campaign: Campaign, precision: str) -> float | None:
    """Operations per second of a large product of torch's; of three under TF32 for "tf32x3"."""
    if precision == "tf32x3":
        return scaled(product_rate(campaign, "tf32"), 3.0)
    found = _measured(campaign.device, campaign.rehearsal)
    if precision not in found:
        n, dtype = campaign.pick(8192, 16), PRODUCTS[precision]
        a, b = (torch.randn(n, n, device=campaign.device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        with tf32(precision == "tf32"):
            seconds = campaign.seconds(lambda _: torch.mm(a, b, out=out))
        found[precision] = rate(2.0 * n**3, seconds)
    return found[precision]


def run(campaign: Campaign) -> None:
    """Copies, products, and what a launch takes."""
    copied = copy_rate(campaign)
    campaign.row("copy", "rate", scaled(copied, 1e9), "GB/s", headline=True)
    for precision in PRODUCTS:
        found = product_rate(campaign, precision)
        campaign.row(f"product {precision}", "rate", scaled(found, 1e12), "TFLOP/s", headline=True)
    little = torch.zeros(1, device=campaign.device)
    seconds = campaign.seconds(lambda _: little.add_(1.0))
    campaign.row("node of a graph", "time", scaled(seconds, 1e-6), "us", headline=True)


def scaled(value: float | None, unit: float) -> float | None:
    """In another unit, where it is known."""
    return None if value is None else value / unit


def launch(campaign: Campaign) -> None:
    """A row: what the host takes for one of torch's launches."""
    campaign.row("launch of torch's", "time", scaled(_host(campaign), 1e-6), "us")


def _host(campaign: Campaign) -> float | None:
    """Seconds."""
    if not campaign.timed:
        return None
    little = torch.zeros(1, device=campaign.device)
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(1000):
        little.add_(1.0)
    seconds = time.perf_counter() - begin
    torch.cuda.synchronize()
    return seconds / 1000
