"""Every method beside FedAvg or FedSAM, in turns: `python bench/bench_pace.py`.

    --only feddyn,scaffold   some of the methods, all by default
    --workloads W2,W3        all four cases by default: W2, W3, and clients of 20 samples (small)
    --rounds N               counted rounds of each, 12 by default
    --write                  keep a row per method in results/pace.csv

`pace` is the yardstick's median round over the method's: FedAvg's for methods that take one
gradient a step, FedSAM's for those that take two or perturb. Every case is measured with and
without `clip_norm` 10. The bars: 0.8 on W2 and W3; 0.67 for FedDyn on `small`.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import replace

from alternate import alternate_rounds
from result_files import append, quantiles, stamp
from workloads import BY_NAME, LR, Workload

from fedfast import Simulation

THREADS = 2
SINGLE = ("feddyn", "scaffold", "fedprox", "fedcm", "fedgloss")
SHARPENED = ("fedspeed", "mofedsam", "fedgamma", "fedlesam", "fedlesam-s", "fedlesam-d")
SHARPENED += ("fedwmsam", "fednsam", "fedsmoo")
CASES = {
    "W2": BY_NAME["W2"],
    "W3": BY_NAME["W3"],
    "small": replace(BY_NAME["W3"], name="small", samples=20),
}


def yardstick(method: str) -> str:
    """Whose pace a method is held to."""
    return "fedavg" if method in SINGLE else "fedsam"


def measure(
    workload: Workload, methods: Sequence[str], clip_norm: float | None, rounds: int
) -> list[dict[str, object]]:
    """A row for each method; all take turns, round by round."""
    everybody = [*dict.fromkeys(map(yardstick, methods)), *methods]
    data, schedule = workload.data(), workload.schedule(rounds)
    given = dict(schedule=schedule, lr=LR, threads=THREADS, clip_norm=clip_norm)
    sims = [
        iter(Simulation(workload.module(), data, name, **given))
        for name in everybody
    ]
    seconds, others = alternate_rounds([lambda _, s=sim: next(s) for sim in sims], rounds)
    times = dict(zip(everybody, seconds, strict=True))
    return [
        stamp(THREADS)
        | dict(workload=workload.name, clip=clip_norm or "", method=name, beside=yardstick(name))
        | quantiles(times[name], "ms", digits=3)
        | dict(pace=round(pace(times[yardstick(name)], times[name]), 3), others=round(others, 2))
        for name in methods
    ]


def pace(theirs: Sequence[float], own: Sequence[float]) -> float:
    """The median of their time over ours, turn by turn."""
    return statistics.median(a / b for a, b in zip(theirs, own, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("--only", default=",".join((*SINGLE, *SHARPENED)))
    parser.add_argument("--workloads", default=",".join(CASES))
    parser.add_argument("--clips", default="none,10")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    for name in given.workloads.split(","):
        for clip in given.clips.split(","):
            clip_norm = None if clip == "none" else float(clip)
            for row in measure(CASES[name], given.only.split(","), clip_norm, given.rounds):
                print(*(row[k] for k in ("workload", "clip", "method", "beside")), end="  ")
                print(f"{row['median_ms']} ms  pace {row['pace']}", flush=True)
                if given.write:
                    append("pace", row)


if __name__ == "__main__":
    main()
