"""Section `rounds`: the federations of `workloads.py`, beside a loop in torch and vmap.

All with data on the device, on the same batches; the loop is the best eager one of `baselines.py`,
client after client. A round's time is the host's, from a synchronised stream to
a synchronised stream; what the device was busy is the sum over its kernels, by torch's profiler.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch
from baselines import TunedLoop, client_work
from torch.profiler import ProfilerActivity, profile
from vmapped import VmappedLoop
from workloads import BY_NAME, LR, RHO, TINY, Workload

from fedfast import Simulation
from gpu_sections.campaign import Campaign, rate, ratio
from gpu_sections.ceilings import product_rate, scaled

ROUNDS = 6  # the first two are not counted: what is compiled and captured is by then
ALGORITHMS = ("fedavg", "fedsam", "fedgloss", "fedfsa")
# (workload, clients of a round): W1 with as many as fill the chip
SIZES = (("W2", 10), ("W3", 100), ("W1", 10), ("W1", 100), ("W4", 5), ("W5", 2), ("W1b", 10))
Rounds = Callable[[int], object]


def run(campaign: Campaign) -> None:
    """Every workload; a contestant that fails is a row."""
    sizes = [replace(BY_NAME[name], cohort=cohort) for name, cohort in SIZES]
    for work in [TINY] if campaign.rehearsal else sizes:
        for algorithm in ALGORITHMS if work.model == "mlp" else ALGORITHMS[:2]:
            _workload(campaign, work, algorithm)


def _workload(campaign: Campaign, work: Workload, algorithm: str) -> None:
    subject = f"{work.name} {algorithm}, K = {work.cohort}"
    found = {}
    for name, make in _contestants(campaign, work, algorithm).items():
        with campaign.trying(f"{subject} {name}"):
            found[name] = _seconds(campaign, make())
    ours, passes = found.get("fedfast"), 2 if algorithm in ("fedsam", "fedfsa") else 1
    campaign.row(subject, "round", scaled(ours, 1e-3), "ms", headline=True)
    campaign.row(subject, "samples", rate(work.cohort * work.samples, ours), "1/s")
    share = ratio(rate(passes * work.flops(), ours), product_rate(campaign, "tf32x3"))
    campaign.row(subject, "share", share, "of tf32x3 product", headline=True)
    for name in found.keys() - {"fedfast"}:
        campaign.row(subject, f"beside {name}", ratio(found[name], ours), "times", headline=True)
    with campaign.trying(f"{subject} busy"):
        busy = ratio(_busy(campaign, _fedfast(campaign, work, algorithm)), ours)
        campaign.row(subject, "device busy", busy, "of round", headline=True)


def _contestants(
    campaign: Campaign, work: Workload, algorithm: str
) -> dict[str, Callable[[], Rounds]]:
    """Whoever trains this; the loop and vmap know FedAvg, the loop SAM as well.

    "fedfast" has the default precision, "tf32" operands rounded to TF32.
    """
    rho = {"fedavg": None, "fedsam": RHO}.get(algorithm, RHO)
    found = {"fedfast": lambda: _fedfast(campaign, work, algorithm)}
    found["tf32"] = lambda: _fedfast(campaign, work, algorithm, precision="tf32")
    if work.model == "mlp":  # a client's steps in one launch, where the CUDA module is
        found["resident"] = lambda: _fedfast(campaign, work, algorithm, "auto")
    if algorithm in ("fedavg", "fedsam"):
        found["loop"] = lambda: _loop(campaign, work, rho)
    if algorithm == "fedavg":
        found["vmap"] = lambda: _vmap(campaign, work)
    return found


def _fedfast(
    campaign: Campaign,
    work: Workload,
    algorithm: str,
    backend: str = "triton",
    precision: str = "auto",
) -> Rounds:
    device, count = campaign.device.type, campaign.pick(ROUNDS, 1)
    options = dict(device=device, backend=backend, precision=precision, lr=LR)
    schedule = work.schedule(count)
    sim = Simulation(work.module(), work.data(), algorithm, schedule=schedule, **options)
    rounds = iter(sim)
    return lambda _: next(rounds)


def _given(campaign: Campaign, work: Workload) -> tuple:
    """(samples, targets) on the device, and the batches of every round."""
    data, count = work.data(), campaign.pick(ROUNDS, 1)
    schedule = work.schedule(count)
    plans = [client_work(data, schedule.round(t)) for t in range(count + 1)]
    on = [[replace(own, rows=own.rows.to(campaign.device)) for own in plan] for plan in plans]
    return data.x.to(campaign.device), data.y.to(campaign.device), on


def _loop(campaign: Campaign, work: Workload, rho: float | None) -> Rounds:
    """The best eager loop, client after client."""
    x, y, plans = _given(campaign, work)
    loop = TunedLoop(work.module().to(campaign.device), x, y, LR, rho)
    return lambda t: loop.round(plans[t])


def _vmap(campaign: Campaign, work: Workload) -> Rounds:
    x, y, plans = _given(campaign, work)
    loop = VmappedLoop(work.module().to(campaign.device), x, y, LR)
    return lambda t: loop.round(plans[t])


def _seconds(campaign: Campaign, run_round: Rounds) -> float | None:
    """The middle of the rounds that count."""
    run_round(0)
    if campaign.rehearsal:
        return None
    spent = []
    for t in range(1, ROUNDS):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        run_round(t)
        torch.cuda.synchronize()
        spent.append(time.perf_counter() - begin)
    return median(spent[1:])


def _busy(campaign: Campaign, run_round: Rounds) -> float | None:
    """Seconds that kernels of one round took."""
    if campaign.rehearsal:
        return None
    for t in range(3):
        run_round(t)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as traced:
        run_round(3)
        torch.cuda.synchronize()
    return sum(event.self_device_time_total for event in traced.key_averages()) / 1e6
