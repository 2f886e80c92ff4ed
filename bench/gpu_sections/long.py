"""Section `long`: 200 rounds of FedGloSS on images of CIFAR-10's shape; the mean of 1,000 models.

Table 3 of FedGloSS has 10,000 rounds of the CNN: fifty times as many.
"""

from __future__ import annotations

import time

import torch
from workloads import BY_NAME, LR, TINY

from fedfast import SAM, Simulation, kernels
from fedfast.algorithms import FedGloSS
from gpu_sections.campaign import Campaign, normal, rate, ratio
from gpu_sections.ceilings import copy_rate, scaled

FEDGLOSS = "FedGloSS, CNN"


def run(campaign: Campaign) -> None:
    """Both."""
    with campaign.trying("mean"):
        _mean(campaign)
    with campaign.trying(FEDGLOSS):
        _fedgloss(campaign)


def _fedgloss(campaign: Campaign) -> None:
    work, count = TINY if campaign.rehearsal else BY_NAME["W4"], campaign.pick(200, 1)
    options = dict(device=str(campaign.device), backend="triton", lr=LR)
    algorithm = FedGloSS(local=SAM(rho=0.15, eps=1e-16))  # Table 3's clients
    schedule = work.schedule(count)
    sim = Simulation(work.module(), work.data(), algorithm, schedule=schedule, **options)
    rounds = iter(sim)
    next(rounds)
    begin = time.perf_counter()
    for _ in range(count):
        next(rounds)
    spent = time.perf_counter() - begin if campaign.timed else None
    campaign.row(FEDGLOSS, "round", scaled(spent, 1e-3 * count), "ms", headline=True)
    campaign.row(FEDGLOSS, "10,000 rounds", scaled(spent, 60 * count / 1e4), "min", True)


def mean_of(clients: int, size: int) -> str:
    """The subject of its rows."""
    return f"mean of {clients} x {size}"


def _mean(campaign: Campaign) -> None:
    clients, size = campaign.pick(1000, 3), campaign.pick(800_000, 64)
    rows, start = normal(campaign, clients, size), normal(campaign, size)
    total = torch.zeros(size, dtype=torch.float64, device=campaign.device)

    def mean(_: int) -> None:
        kernels.aggregate(rows, 1.0 / clients, start, acc=total, backend="triton")

    found = rate(4.0 * clients * size, campaign.seconds(mean))
    subject = mean_of(clients, size)
    campaign.row(subject, "rate", scaled(found, 1e9), "GB/s")
    campaign.row(subject, "share", ratio(found, copy_rate(campaign)), "of copy", headline=True)
