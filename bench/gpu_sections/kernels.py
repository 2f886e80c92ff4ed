"""Section `kernels`: operations on rows, as shares of a copy's rate, then pairs and losses
(`pairs.py`) and layers (`layers.py`).

Operands come from memory: as many buffers as are larger than the caches take turns.
"""

from __future__ import annotations

import torch

from fedfast import kernels
from gpu_sections import layers, pairs
from gpu_sections.campaign import Action, Campaign, normal, rate, ratio
from gpu_sections.ceilings import copy_rate, scaled

# Ours, each with its row beside the copy.
OPERATIONS = ("step", "step with momentum", "perturb", "mix", "aggregate")
P = 1_663_424  # the CNN of McMahan et al. 2017, padded to whole cache lines


def operation(name: str, clients: int) -> str:
    """The subject of its rows."""
    return f"{name}, K = {clients}"


def run(campaign: Campaign) -> None:
    """All of it, headlines first: time that runs out ends it."""
    for clients in dict.fromkeys(campaign.pick(k, 2) for k in (100, 10)):
        with campaign.trying(f"rows, K = {clients}"):
            _rows(campaign, clients)
    with campaign.trying("pairs and losses"):
        pairs.run(campaign, campaign.pick(P, 64))
    for clients in dict.fromkeys(campaign.pick(k, 2) for k in (100, 10, 5)):
        layers.run(campaign, clients)


def _rows(campaign: Campaign, clients: int) -> None:
    """Bytes are those of operands read and results written once; norms read the gradient first."""
    size = campaign.pick(P, 64)
    copies = campaign.copies(12.0 * clients * size)
    banks = [[normal(campaign, clients, size) for _ in range(3)] for _ in range(copies)]
    start, total = normal(campaign, size), torch.zeros(size, device=campaign.device).double()

    def step(i: int) -> None:
        w, g, _ = banks[i]
        kernels.step(w, g, 1e-6, backend="triton")

    def momentum(i: int) -> None:
        w, g, m = banks[i]
        kernels.step(w, g, 1e-6, momentum=0.9, m=m, backend="triton")

    def perturb(i: int) -> None:
        w, g, out = banks[i]
        kernels.perturb(w, g, 0.05, out=out, backend="triton")

    def mix(i: int) -> None:
        a, b, out = banks[i]
        kernels.mix(a, b, out=out, backend="triton")

    def mean(i: int) -> None:
        kernels.aggregate(banks[i][0], 1.0 / clients, start, acc=total, backend="triton")

    def foreach(i: int) -> None:
        torch._foreach_add_([banks[i][0]], [banks[i][1]], alpha=-1e-6)

    actions: dict[str, tuple[float, Action]] = {
        "step": (12, step),
        "step with momentum": (20, momentum),
        "perturb": (16, perturb),
        "mix": (12, mix),
        "aggregate": (4 + 12 / clients, mean),
        "foreach add": (12, foreach),
    }
    for name, (bytes_, action) in actions.items():
        found = rate(bytes_ * clients * size, campaign.seconds(action, copies))
        subject = operation(name, clients)
        campaign.row(subject, "rate", scaled(found, 1e9), "GB/s")
        share, many = ratio(found, copy_rate(campaign)), clients == campaign.pick(100, 2)
        campaign.row(subject, "share", share, "of copy", headline=many)
