"""Rounds of fedfast beside those of other simulators: `python bench/bench_peers.py`.

    --workloads W2,W3              of W1, W2 and W3 (bench/workloads.py), all by default
    --algorithms fedavg,scaffold   of fedavg, fedprox, scaffold, fedsam; all, and of W1 the first
    --contestants fedfast,flower   of those in bench/peers/environments.py, all by default
    --rounds n      timed rounds, instead of the workload's own number
    --minutes n     begin no other algorithm after so many
    --prepare       make the environments and do nothing else
    --write         rows to bench/results/peers.csv, then docs/benchmarks.md and docs/peers.png

Each contestant is a process of its own in an environment of its own. All are started and warmed up
with a round, then take turns round by round; who waits for its turn does nothing. All get the same
initial model, cohorts and batches, from files that are written before. What they trained is
checked: clients, samples and steps of every round, and the norm of the global model's update beside
fedfast's.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from alternate import Usage
from peers import page, table
from peers.contestant import Player, tree
from peers.environments import CONTESTANTS, ROOT, Contestant, Unavailable, interpreter
from peers.table import PeerRow
from peers.task_files import ALGORITHMS, write_task
from result_files import append, commit, processor
from workloads import WORKLOADS, Workload

BUDGET_S = 30.0  # of timed rounds for one contestant; who has spent it takes no more turns
AGAIN_S = 3.0  # a round shorter than this is tried twice under each setting
ROUNDS = {"W2": 9, "W3": 7, "W1": 2}  # in this order


def players(contestants: list[Contestant], folder: Path) -> tuple[list[Player], dict[str, str]]:
    """The contestants that start, and why the others do not."""
    missing: dict[str, str] = {}

    def without(contestant: Contestant, reason: Unavailable) -> None:
        missing[contestant.name] = f"skipped: {reason}"
        print(f"  {contestant.name} skipped: {reason}", flush=True)

    begun, there = [], []
    for contestant in contestants:  # they load their packages side by side
        try:
            begun.append(Player(contestant, folder))
        except Unavailable as reason:
            without(contestant, reason)
    for player in begun:
        try:
            player.greet()
            there.append(player)
        except Unavailable as reason:
            without(player.contestant, reason)
    return there, missing


def warm(player: Player, algorithm: str, chosen: dict[str, str]) -> str:
    """Start it and train round 0; the first time, under each setting. Why not, or ''."""
    name = player.contestant.name
    tried = [chosen[name]] if name in chosen else player.contestant.settings
    seconds = {}
    for setting in tried:
        unsupported = player.start(algorithm, setting)
        if unsupported:
            return unsupported
        seconds[setting] = player.round(0)["seconds"]
        if len(tried) > 1 and seconds[setting] < AGAIN_S:  # the first round is the coldest
            seconds[setting] = min(seconds[setting], player.round(0)["seconds"])
    best = chosen[name] = min(seconds, key=seconds.__getitem__)
    if len(tried) > 1:  # what was tried may have trained round 0 twice
        player.start(algorithm, best)
        player.round(0)
    return ""


def compare(
    workload: Workload, algorithm: str, playing: list[Player], rounds: int, chosen: dict[str, str]
) -> list[PeerRow]:
    """All on one workload and algorithm, in turns."""
    notes: dict[str, str] = {}
    replies: dict[str, list[dict[str, float]]] = {}
    ready = [p for p in playing if _tried(p, notes, lambda p: warm(p, algorithm, chosen))]
    before, own = Usage.now(), sum(tree(os.getpid()).values())
    for t in range(1, rounds + 1):
        for player in ready:
            taken = replies.setdefault(player.contestant.name, [])
            if sum(reply["seconds"] for reply in taken) < BUDGET_S and player in ready:
                _tried(player, notes, lambda p, t=t, taken=taken: taken.append(p.round(t)) or "")
        ready = [p for p in ready if p.contestant.name not in notes]
    now, spent = Usage.now(), sum(tree(os.getpid()).values()) - own
    elsewhere = replace(now, own=before.own + spent).elsewhere(before)
    return table.rows(workload, algorithm, playing, replies, notes, chosen, elsewhere)


def _tried(player: Player, notes: dict[str, str], action) -> bool:
    """Whether the action worked; a note of what it returned or raised otherwise."""
    try:
        note = action(player)
    except Unavailable as reason:
        note = f"failed: {reason}"
    if note:
        notes[player.contestant.name] = note
        print(f"  {player.contestant.name}: {note}", flush=True)
    return not note


def measure(options: argparse.Namespace) -> Iterator[list[PeerRow]]:
    """The rows of each workload and algorithm asked for, while there is time."""
    end = time.monotonic() + 60 * options.minutes
    for workload in options.workloads:
        rounds = options.rounds or ROUNDS.get(workload.name, 3)
        folder = write_task(workload, rounds + 1, ROOT / "tasks" / workload.name)
        print(f"{workload.title}", flush=True)
        playing, missing = players(options.contestants, folder)
        chosen: dict[str, str] = {}
        plain = ["fedavg"] if workload.name == "W1" else list(ALGORITHMS)
        try:
            for algorithm in options.algorithms or plain:
                if time.monotonic() > end:
                    print(f"  no time left for {algorithm}", flush=True)
                    continue
                rows = compare(workload, algorithm, playing, rounds, chosen)
                table.show(rows)
                yield rows + table.absent(workload, algorithm, options.contestants, missing)
                playing = [p for p in playing if p.process.poll() is None]
        finally:
            for player in playing:
                player.close()


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    known = {
        "workloads": {name: w for name in ROUNDS for w in WORKLOADS if w.name == name},
        "algorithms": {name: name for name in ALGORITHMS},
        "contestants": {c.name: c for c in CONTESTANTS},
    }
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, choices in known.items():
        parser.add_argument(f"--{name}", help=f"some of {','.join(choices)}")
    parser.add_argument("--rounds", type=int, help="timed rounds of every workload")
    parser.add_argument("--minutes", type=float, default=60, help="begin nothing new after them")
    parser.add_argument("--prepare", action="store_true", help="make the environments only")
    parser.add_argument("--write", action="store_true", help="append to peers.csv, renew the page")
    options = parser.parse_args(argv)
    for name, choices in known.items():
        given = getattr(options, name)
        chosen = given.split(",") if given else [] if name == "algorithms" else list(choices)
        unknown = set(chosen) - set(choices)
        if unknown:
            parser.error(f"--{name}: unknown {', '.join(unknown)}; known: {', '.join(choices)}")
        setattr(options, name, [choices[key] for key in chosen])
    return options


def main(argv: list[str] | None = None) -> None:
    """Run what the command line asks for."""
    options = arguments(argv)
    print(f"{processor()}, {os.cpu_count()} cores, commit {commit()}\n", flush=True)
    if options.prepare:
        for contestant in options.contestants:
            try:
                print(f"{contestant.name}: {interpreter(contestant)}", flush=True)
            except Unavailable as reason:
                print(f"{contestant.name} skipped: {reason}", flush=True)
        return
    for rows in measure(options):
        if options.write:
            append("peers", *map(vars, rows))
            page.write()


if __name__ == "__main__":
    main()
