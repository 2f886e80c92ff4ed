"""Section `memory`: what a run allocates at most, beside its plan (`fedfast/memory.py`).

The plan counts rows, activations, batches, copies of the model and what clients keep; the samples
come beside it. The peak is the allocator's, from before the run is built to behind its rounds.
"""

from __future__ import annotations

import gc
from dataclasses import replace

import torch
from workloads import BY_NAME, LR, TINY

from fedfast import Simulation
from fedfast.memory import data_bytes
from gpu_sections.campaign import Campaign, ratio
from gpu_sections.ceilings import scaled
from gpu_sections.rounds import subject

# (workload, algorithm, clients of a round)
CASES = (
    ("W1", "fedavg", 100),
    ("W1", "fedsam", 100),
    ("W3", "scaffold", 100),
    ("W4", "feddyn", 5),
    ("W5", "fedavg", 2),
)
ROUNDS = 2


def run(campaign: Campaign) -> None:
    """Every case; one that fails is a row."""
    for name, algorithm, cohort in CASES[: campaign.pick(len(CASES), 2)]:
        with campaign.trying(subject(name, algorithm, cohort)):
            _case(campaign, name, algorithm, cohort)


def _case(campaign: Campaign, name: str, algorithm: str, cohort: int) -> None:
    work = TINY if campaign.rehearsal else replace(BY_NAME[name], cohort=cohort)
    data, before = work.data(), _begin(campaign)
    options = dict(device=str(campaign.device), backend="triton", lr=LR)
    schedule = work.schedule(ROUNDS)
    sim = Simulation(work.module(), data, algorithm, schedule=schedule, **options)
    sim.run(progress=False)
    plan = sim.memory
    planned = float(plan.fixed + plan.chunk * plan.each + data_bytes(data))
    peak = None
    if campaign.timed:
        peak = float(torch.cuda.max_memory_allocated(campaign.device) - before)
    of, case = ratio(peak, planned), subject(name, algorithm, cohort)
    campaign.row(case, "planned", planned / 2**20, "MiB")
    campaign.row(case, "allocated", scaled(peak, 2.0**20), "MiB")
    campaign.row(case, "peak", of, "of plan", headline=True)


def _begin(campaign: Campaign) -> int:
    """Bytes that are allocated before; the peak counts from here."""
    gc.collect()
    if not campaign.timed:
        return 0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats(campaign.device)
    return torch.cuda.memory_allocated(campaign.device)
