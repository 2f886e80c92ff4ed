"""Rows of results/round.csv: made of a simulator's times, compared, printed."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace

from result_files import Stamp, quantiles, stamp
from simulators import Simulator
from workloads import Workload


@dataclass(frozen=True)
class RoundRow(Stamp):
    """What one simulator did on one workload; a row of round.csv.

    contestant  the simulator's name: fedfast, typical, tuned, vmap
    clients  per round; rounds timed
    gflop_per_s, sgemm_gflop_per_s  useful arithmetic, and that of a large product
    setup_s    before the first round: compilation, allocation
    elsewhere  share of the machine's CPU time that other processes took meanwhile
    ratio_fedfast  median over fedfast's, same algorithm
    ratio_sam      FedSAM's median over FedAvg's, same simulator
    """

    workload: str
    algorithm: str
    contestant: str
    setting: str
    clients: int
    samples: int
    batch: int
    rounds: int
    median_s: float
    p20_s: float
    p80_s: float
    clients_per_s: float
    gflop_per_s: float
    sgemm_gflop_per_s: float
    setup_s: float
    elsewhere: float
    ratio_fedfast: float | None = None
    ratio_sam: float | None = None


def round_row(
    workload: Workload,
    c: Simulator,
    seconds: list[float],
    threads: int,
    sgemm: float,
    elsewhere: float,
) -> RoundRow:
    """The figures of one simulator, but for its ratios."""
    times = quantiles(seconds)
    median = statistics.median(seconds)
    flops = workload.flops() * (2 if c.algorithm == "fedsam" else 1)
    return RoundRow(
        **stamp(threads),
        workload=workload.name,
        algorithm=c.algorithm,
        contestant=c.name,
        setting=c.setting,
        clients=workload.cohort,
        samples=workload.samples,
        batch=workload.batch,
        rounds=len(seconds),
        **times,
        clients_per_s=round(workload.cohort / median, 2),
        gflop_per_s=round(flops / median / 1e9, 2),
        sgemm_gflop_per_s=round(sgemm, 1),
        setup_s=round(c.setup_seconds, 2),
        elsewhere=round(elsewhere, 3),
    )


def compared(rows: list[RoundRow]) -> list[RoundRow]:
    """The rows with their ratios to fedfast and between the algorithms."""
    median = {(r.contestant, r.algorithm): r.median_s for r in rows}

    def ratios(r: RoundRow) -> RoundRow:
        ours, plain = median.get(("fedfast", r.algorithm)), median.get((r.contestant, "fedavg"))
        sam = r.median_s / plain if r.algorithm == "fedsam" and plain else None
        return replace(
            r, ratio_fedfast=ours and round(r.median_s / ours, 3), ratio_sam=sam and round(sam, 3)
        )

    return [ratios(r) for r in rows]


def show(rows: list[RoundRow]) -> None:
    """The table of one workload."""
    print(
        "  algorithm  simulator     median s   [   p20,     p80 ]  clients/s  GFLOP/s"
        "  of SGEMM  x fedfast  setting"
    )
    for r in rows:
        share = r.gflop_per_s / r.sgemm_gflop_per_s
        first_round = f" (first round {r.setup_s:.0f} s)" if r.contestant == "vmap" else ""
        print(
            f"  {r.algorithm:<10} {r.contestant:<10} {r.median_s:11.4f}   [{r.p20_s:7.4f}, "
            f"{r.p80_s:7.4f}] {r.clients_per_s:10.1f} {r.gflop_per_s:8.1f} {share:9.0%} "
            f"{r.ratio_fedfast:10.2f}  {r.setting}{first_round}"
        )
    ratios = [f"{r.contestant} {r.ratio_sam:.2f}" for r in rows if r.ratio_sam]
    print(f"  FedSAM / FedAvg: {', '.join(ratios)}")
    print(f"  {rows[0].elsewhere:.0%} of the machine went to other processes\n", flush=True)
