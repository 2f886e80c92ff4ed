"""`gram` and `cross_entropy`: rates, and whether a pair's bits depend on the number of clients."""

from __future__ import annotations

import torch

from fedfast import kernels
from gpu_sections.campaign import Campaign, normal, rate, ratio
from gpu_sections.ceilings import copy_rate, scaled

COHORTS = (5, 10, 40, 100)  # a tile of 8, one of 16, several of 32
LOGITS = {"W1": (50, 62), "W2": (50, 10), "words": (64, 10_000), "one large batch": (1024, 100)}


def run(campaign: Campaign, size: int) -> None:
    """Rows of `size` numbers; logits of some models."""
    rows, start = normal(campaign, max(COHORTS), size), normal(campaign, size)
    found = {}
    for clients in COHORTS:
        own = rows[:clients]
        found[clients] = kernels.gram(own, start, backend="triton")
        copies = campaign.copies(4.0 * clients * size)
        banks = [own, *(own.clone() for _ in range(copies - 1))]
        seconds = campaign.seconds(
            lambda i, banks=banks: kernels.gram(banks[i], start, backend="triton"), copies
        )
        subject, bytes_ = f"gram, K = {clients}", 4.0 * (clients + 1) * size
        campaign.row(subject, "rate", scaled(rate(bytes_, seconds), 1e9), "GB/s")
        share = ratio(rate(bytes_, seconds), copy_rate(campaign))
        campaign.row(subject, "share", share, "of copy", headline=True)
        campaign.row(subject, "products", scaled(rate(size * clients**2, seconds), 1e12), "TFLOP/s")
    if campaign.timed:  # where NumPy's products have an order for each size
        few = min(COHORTS)
        alike = all(torch.equal(g[:few, :few], found[few]) for g in found.values())
        campaign.row("gram", "pairs alike in all", str(alike), headline=not alike)
    for name, (batch, classes) in LOGITS.items():
        _losses(campaign, name, *((7, 5) if campaign.rehearsal else (batch, classes)))


def _losses(campaign: Campaign, name: str, batch: int, classes: int) -> None:
    """The share of a copy is small where the logits of ten clients are."""
    clients = campaign.pick(10, 2)
    logits = normal(campaign, clients, batch, classes)
    targets = torch.zeros(clients, batch, dtype=torch.int64, device=logits.device)
    count = torch.full((clients,), batch, dtype=torch.int32, device=logits.device)
    to = dict(dlogits=torch.empty_like(logits), losses=logits[:, 0, 0].clone())
    seconds = campaign.seconds(
        lambda _: kernels.cross_entropy(logits, targets, count, **to, backend="triton")
    )
    subject = f"cross_entropy {name}, K = {clients}"
    campaign.row(subject, "time", scaled(seconds, 1e-6), "us")
    found = rate(8.0 * logits.numel(), seconds)
    campaign.row(subject, "share", ratio(found, copy_rate(campaign)), "of copy")
