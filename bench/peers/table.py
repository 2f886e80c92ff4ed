"""Rows of results/peers.csv: made of the contestants' replies, checked for equal work, printed."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from result_files import Stamp, quantiles, stamp
from workloads import Workload

from .contestant import Player
from .environments import Contestant

EQUAL = 1e-4  # of the update's norm, beside fedfast's

Replies = Mapping[str, Sequence[Mapping[str, float]]]


@dataclass(frozen=True)
class PeerRow(Stamp):
    """What one contestant did on one workload under one algorithm; a row of peers.csv.

    threads, torch  cores that each may use, and fedfast's torch; `versions` has each one's packages
    work    "equal": clients, samples and steps of all rounds as scheduled, and every update's norm
            within 1e-4 of fedfast's; "variant": as many, under a formula that is not the paper's
            (`Contestant.variants`); "unequal" otherwise
    deviation  of the norms from fedfast's, relative, the largest
    elsewhere  share of the machine's CPU time that other processes took meanwhile
    ratio_fedfast  median over fedfast's, same algorithm
    note    why there are no figures
    """

    workload: str
    algorithm: str
    contestant: str
    versions: str
    setting: str
    clients: int
    samples: int
    steps: int
    rounds: int
    median_s: float | None = None
    p20_s: float | None = None
    p80_s: float | None = None
    elsewhere: float | None = None
    work: str = ""
    deviation: float | None = None
    ratio_fedfast: float | None = None
    note: str = ""


def rows(
    workload: Workload,
    algorithm: str,
    playing: Sequence[Player],
    replies: Replies,
    notes: Mapping[str, str],
    chosen: Mapping[str, str],
    elsewhere: float,
) -> list[PeerRow]:
    """The figures of all that play, with their ratios."""
    ours = replies.get("fedfast", ())
    made = []
    for player in playing:
        contestant, versions = player.contestant, _listed(player.versions)
        name = contestant.name
        taken = replies.get(name, ())
        common = _common(workload, algorithm, contestant, versions, chosen.get(name, ""))
        if name in notes or not taken:
            made.append(PeerRow(**common, rounds=0, note=notes.get(name, "no turn")))
            continue
        seconds = [reply["seconds"] for reply in taken]
        deviation = _deviation(taken, ours)
        made.append(
            PeerRow(
                **common,
                rounds=len(taken),
                **quantiles(seconds),
                elsewhere=round(elsewhere, 3),
                work=_work(workload, taken, deviation, algorithm in contestant.variants),
                deviation=None if deviation is None else float(f"{deviation:.1e}"),
                ratio_fedfast=_ratio(seconds, ours),
            )
        )
    return made


def absent(
    workload: Workload,
    algorithm: str,
    contestants: Iterable[Contestant],
    missing: Mapping[str, str],
) -> list[PeerRow]:
    """Rows of those that could not start."""
    return [
        PeerRow(**_common(workload, algorithm, c, "", ""), rounds=0, note=missing[c.name])
        for c in contestants
        if c.name in missing
    ]


def _common(
    workload: Workload, algorithm: str, contestant: Contestant, versions: str, setting: str
) -> dict:
    steps = workload.samples // workload.batch
    return {
        **stamp(os.cpu_count() or 1),
        "workload": workload.name,
        "algorithm": algorithm,
        "contestant": contestant.name,
        "versions": versions,
        "setting": setting,
        "clients": workload.cohort,
        "samples": workload.cohort * workload.samples,
        "steps": workload.cohort * steps,
    }


def _listed(versions: Mapping[str, str]) -> str:
    return " ".join(f"{name}=={version}" for name, version in versions.items())


def _deviation(taken: Sequence[Mapping], ours: Sequence[Mapping]) -> float | None:
    pairs = zip(taken, ours)  # noqa: B905 - a slow one has had fewer turns
    found = [abs(a["update_norm"] / b["update_norm"] - 1.0) for a, b in pairs]
    return max(found) if found else None


def _work(
    workload: Workload, taken: Sequence[Mapping], deviation: float | None, variant: bool
) -> str:
    steps = workload.samples // workload.batch
    expected = (workload.cohort, workload.cohort * workload.samples, workload.cohort * steps)
    counted = {(r["clients"], r["samples"], r["steps"]) for r in taken}
    if counted != {expected} or deviation is None:
        return "unequal"
    return "equal" if deviation <= EQUAL else "variant" if variant else "unequal"


def _ratio(seconds: Sequence[float], ours: Sequence[Mapping[str, float]]) -> float | None:
    if not ours:
        return None
    return round(statistics.median(seconds) / statistics.median(r["seconds"] for r in ours), 3)


def show(rows: Sequence[PeerRow]) -> None:
    """The table of one workload and algorithm."""
    print(f"\n  {rows[0].algorithm}, {rows[0].clients} clients, {rows[0].samples} samples")
    print("  contestant        median s  [    p20,     p80]  x fedfast  work     setting")
    for r in rows:
        if r.median_s is None:
            print(f"  {r.contestant:<15}  {r.note}")
            continue
        print(
            f"  {r.contestant:<15}  {r.median_s:8.4f}  [{r.p20_s:7.4f}, {r.p80_s:7.4f}]  "
            f"{r.ratio_fedfast or 0:9.2f}  {r.work:<7}  {r.setting}; {r.versions}; {r.deviation}"
        )
    shares = [r.elsewhere for r in rows if r.elsewhere is not None]
    print(f"  {max(shares, default=0.0):.0%} of the machine went to other processes\n", flush=True)
