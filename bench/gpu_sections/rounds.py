"""Section `rounds`: the federations of `workloads.py`, beside a loop in torch and vmap.

All with data on the device, on the same batches; the loop is the best eager one of `baselines.py`,
client after client. Both rivals have cuDNN look for its fastest algorithms, and train once in
float32 and once with their operands rounded to TF32; ours stand beside them likewise, under the
default precision and under "tf32". A round's time is the host's, from a synchronised stream to
a synchronised stream; what the device was busy is the sum over its kernels, by torch's profiler.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from statistics import median

import torch
from baselines import TunedLoop, client_work
from torch.profiler import ProfilerActivity, profile
from vmapped import VmappedLoop
from workloads import BY_NAME, LR, RHO, TINY, Workload

from fedfast import FederatedData, Simulation
from gpu_sections.campaign import Campaign, rate, ratio, shortest
from gpu_sections.ceilings import launch, product_rate, scaled, tf32

ROUNDS = 6  # the first two are not counted: what is compiled and captured is by then
ALGORITHMS = ("fedavg", "fedsam", "fedgloss", "fedfsa")
# (workload, clients of a round): W1 with as many as fill the chip
SIZES = (("W2", 10), ("W3", 100), ("W1", 10), ("W1", 100), ("W5", 10), ("W4", 5), ("W5", 2))
SIZES += (("W1b", 10),)
RIVALS = ("loop", "vmap")
OWN = {"fedfast": ("triton", "auto"), "tf32": ("triton", "tf32"), "resident": ("auto", "auto")}
Rounds = Callable[[int], object]


def subject(name: str, algorithm: str, cohort: int) -> str:
    """Of rows."""
    return f"{name} {algorithm}, K = {cohort}"


def run(campaign: Campaign) -> None:
    """Every workload; a contestant that fails is a row. The host's launches are timed here, where
    nothing compiles beside them."""
    launch(campaign)
    for contest in contests(campaign):
        contest.hold()


def contests(campaign: Campaign) -> Iterator[Contest]:
    """Those of `SIZES`; a tiny one in a rehearsal."""
    sizes = [replace(BY_NAME[name], cohort=cohort) for name, cohort in SIZES]
    for work in [TINY] if campaign.rehearsal else sizes:
        data = work.data()  # seconds
        for algorithm in ALGORITHMS if work.model == "mlp" else ALGORITHMS[:2]:
            yield Contest(campaign, work, algorithm, data)


def launches(campaign: Campaign) -> None:
    """What a campaign launches here, for `compiling.py`."""
    for contest in contests(campaign):
        for name in ("fedfast", "tf32"):
            with campaign.trying(f"{contest.subject} {name}"):
                run_round = contest.own(name)
                for t in range(3):
                    run_round(t)


class Contest:
    """All who train one workload by one algorithm."""

    def __init__(
        self, campaign: Campaign, work: Workload, algorithm: str, data: FederatedData
    ) -> None:
        self.campaign, self.work, self.algorithm = campaign, work, algorithm
        self.count = ROUNDS if campaign.timed else 1
        self.subject = subject(work.name, algorithm, work.cohort)
        self.data, self.schedule = data, work.schedule(self.count)

    def hold(self) -> None:
        """Seconds of all, and what follows from them."""
        found: dict[str, float | None] = {}
        for name, make in self.contestants().items():
            with self.campaign.trying(f"{self.subject} {name}"):
                with rounding(name):
                    found[name] = seconds(self.campaign, make(), self.count)
        self._rows(found)
        with self.campaign.trying(f"{self.subject} busy"):
            busy = ratio(_busy(self.campaign, self.own("fedfast")), found.get("fedfast"))
            self.campaign.row(self.subject, "device busy", busy, "of round", headline=True)

    def contestants(self) -> dict[str, Callable[[], Rounds]]:
        """Whoever trains this; the loop and vmap know FedAvg and SAM.

        "resident": a client's steps in one launch, where the CUDA module is.
        """
        names = [n for n in OWN if n != "resident" or self.work.model == "mlp"]
        found = {name: lambda name=name: self.own(name) for name in names}
        if self.algorithm in ("fedavg", "fedsam"):
            for name in RIVALS:
                found[name] = found[f"{name} tf32"] = lambda name=name: self._rival(name)
        return found

    def own(self, name: str) -> Rounds:
        """Ours."""
        backend, precision = OWN[name]
        options = dict(device=str(self.campaign.device), backend=backend, precision=precision)
        options |= dict(lr=LR, schedule=self.schedule)
        rounds = iter(Simulation(self.work.module(), self.data, self.algorithm, **options))
        return lambda _: next(rounds)

    def _rival(self, name: str) -> Rounds:
        """A baseline, given samples and batches on the device."""
        data, device = self.data, self.campaign.device
        plans = [client_work(data, self.schedule.round(t)) for t in range(self.count + 1)]
        on = [[replace(own, rows=own.rows.to(device)) for own in plan] for plan in plans]
        rho = RHO if self.algorithm == "fedsam" else None
        make = {"loop": TunedLoop, "vmap": VmappedLoop}[name]
        module = self.work.module().to(device)
        loop = make(module, data.x.to(device), data.y.to(device), LR, rho=rho)
        return lambda t: loop.round(on[t])

    def _rows(self, found: dict[str, float | None]) -> None:
        work, row = self.work, self.campaign.row
        passes = 2 if self.algorithm in ("fedsam", "fedfsa") else 1
        for name, precision in (("fedfast", "tf32x3"), ("tf32", "tf32")):
            ours, of = found.get(name), f"of {precision} product"
            word = "" if name == "fedfast" else f" {name}"
            row(self.subject, f"round{word}", scaled(ours, 1e-3), "ms", headline=not word)
            row(self.subject, f"samples{word}", rate(work.cohort * work.samples, ours), "1/s")
            share = ratio(rate(passes * work.flops(), ours), product_rate(self.campaign, precision))
            row(self.subject, f"share{word}", share, of, headline=True)
        default = shortest([found.get("fedfast"), found.get("resident")])
        for name in found.keys() - {"fedfast"}:
            own = found.get("tf32") if name.endswith(" tf32") else found.get("fedfast")
            times = ratio(found[name], own)
            row(self.subject, f"beside {name}", times, "times", headline=True)
            if name in RIVALS:
                times = ratio(found[name], default)
                row(self.subject, f"default beside {name}", times, "times")


@contextmanager
def rounding(name: str) -> Iterator[None]:
    """Torch's switches for the rivals: products in float32, or of operands rounded to TF32."""
    cudnn = torch.backends.cudnn
    before, cudnn.benchmark = cudnn.benchmark, name.split()[0] in RIVALS
    try:
        with tf32(name.endswith(" tf32")):
            yield
    finally:
        cudnn.benchmark = before


def seconds(campaign: Campaign, run_round: Rounds, count: int) -> float | None:
    """The middle of the rounds that count."""
    run_round(0)
    if not campaign.timed:
        return None
    spent = []
    for t in range(1, count):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        run_round(t)
        torch.cuda.synchronize()
        spent.append(time.perf_counter() - begin)
    return median(spent[1:])


def _busy(campaign: Campaign, run_round: Rounds) -> float | None:
    """Seconds that kernels of one round took."""
    if not campaign.timed:
        return None
    for t in range(3):
        run_round(t)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as traced:
        run_round(3)
        torch.cuda.synchronize()
    return sum(event.self_device_time_total for event in traced.key_averages()) / 1e6
