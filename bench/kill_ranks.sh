#!/bin/bash
# kill -9 of a random rank of a run by torchrun, TIMES times (20), at a random time: each time the run has to
# end soon, with every round that history.csv lists in the saved state. At the end it is carried to its last
# round and compared with a run by one process.
#
#     bash bench/kill_ranks.sh CONFIG [TIMES [RANKS]]        in an empty folder; RANKS is 2 by default
set -u
config=$1 times=${2:-20} ranks=${3:-2}
python -m fedfast run "$config" --out whole > whole.log 2>&1 || exit 1
for i in $(seq "$times"); do
    before=$(cat killed/history.csv 2> /dev/null | wc -l)
    torchrun --nproc-per-node="$ranks" -m fedfast run "$config" --out killed --resume > "kill$i.log" 2>&1 &
    launcher=$!
    while [ "$(cat killed/history.csv 2> /dev/null | wc -l)" -le "$before" ]; do sleep 0.1; done
    sleep "$((RANDOM % 4)).$((RANDOM % 1000))"
    rank=$((RANDOM % ranks))
    for child in $(pgrep -P "$launcher"); do
        if tr '\0' '\n' < "/proc/$child/environ" | grep -qx "RANK=$rank"; then kill -9 "$child"; fi
    done
    SECONDS=0
    wait "$launcher"
    python - "$i" "$rank" "$SECONDS" <<'END'
import sys
from pathlib import Path

from fedfast import checkpoint

i, rank, seconds = sys.argv[1:]
listed = len(Path("killed/history.csv").read_text().splitlines()) - 1
(state,) = Path("killed/checkpoint").glob("*.state")
saved = len(checkpoint.history(state))
lost = f"LOST {listed - saved}" if saved < listed else "nothing lost"
print(f"{i}: rank {rank} killed, ended after {seconds} s, {listed} rounds listed, {saved} saved: {lost}")
END
done
torchrun --nproc-per-node="$ranks" -m fedfast run "$config" --out killed --resume > last.log 2>&1
python - <<'END'
import pandas as pd
a, b = (pd.read_csv(f"{name}/history.csv") for name in ("whole", "killed"))
columns = [c for c in a.columns if "second" not in c]
print("equal to one process:", len(a), "rounds,", a[columns].equals(b[columns]))
END
