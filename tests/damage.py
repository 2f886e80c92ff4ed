"""Saved states with a bit turned over: `python tests/damage.py --count 400` tries as many.

Each must be refused by a ValueError naming the file, or give way, with a warning, to the state
before it; a run that goes on from what was accepted must end with the bits of the run that never
stopped.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import warnings
from pathlib import Path

from interrupts import differences, everything, simulation

import fedfast


def states(kind: str, folder: Path) -> Path:
    """A simulation saved after rounds 2 and 3: the newest state and the one before."""
    sim, path = simulation(kind), folder / "state.pt"
    for row in itertools.islice(sim, 3):
        if row.round > 1:
            sim.save(path)
    return path


def outcome(sim: fedfast.Simulation, path: Path) -> str:
    """ "refused", "fell back" or "accepted" """
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        before = everything(sim)
        try:
            sim.load(path)
        except ValueError as error:
            assert str(path) in str(error), error
            assert not differences(everything(sim), before), "a failed load has changed it"
            return "refused"
    return "fell back" if any("went on from" in str(w.message) for w in warned) else "accepted"


def flipped(path: Path, bit: int) -> bytes:
    """The file's bytes before one of its bits was turned over."""
    held = path.read_bytes()
    turned = bytearray(held)
    turned[bit // 8] ^= 1 << bit % 8
    path.write_bytes(turned)
    return held


def main() -> int:
    """The campaign; 1 where a damaged state was accepted, or a run differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw, seen, wrong = random.Random(options.seed), dict[str, int](), 0
    kinds = ["scaffold", "fedfsa", "feddyn", "fedavg"]
    with tempfile.TemporaryDirectory() as folder:
        for i in range(options.count):
            kind = kinds[i % len(kinds)]
            home = Path(folder) / kind
            if not home.exists():
                home.mkdir()
                states(kind, home)
            path, alone = home / "state.pt", i // len(kinds) % 2 == 0
            before = path.with_name("state.pt.previous")
            kept = before.read_bytes()
            if alone:  # nothing to fall back to
                before.unlink()
            held = flipped(path, draw.randrange(8 * path.stat().st_size))
            sim = simulation(kind)
            found = outcome(sim, path)
            path.write_bytes(held)
            before.write_bytes(kept)
            seen[found] = seen.get(found, 0) + 1
            if found != "refused":
                whole = simulation(kind)
                whole.run(progress=False)
                expected = everything(whole)
                sim.run(progress=False)
                wrong += bool(differences(everything(sim), expected))
    accepted = seen.get("accepted", 0)
    print(f"{options.count} flips: {seen}, {wrong} runs differ")
    return int(accepted > 0 or wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
