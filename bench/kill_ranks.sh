#!/bin/bash
# kill -9 of a random rank of a run by torchrun, TIMES times (20): each time the run has to end soon, and to
# go on from what is on disk. At the end it is carried to its last round and compared with a run by one process.
#
#     bash bench/kill_ranks.sh CONFIG [TIMES]        in an empty folder
set -u
config=$1 times=${2:-20}
python -m fedfast run "$config" --out whole > whole.log 2>&1 || exit 1
for i in $(seq "$times"); do
    torchrun --nproc-per-node=2 -m fedfast run "$config" --out killed --resume > "kill$i.log" 2>&1 &
    launcher=$!
    sleep "$((8 + RANDOM % 8)).$((RANDOM % 10))"
    rank=$((RANDOM % 2))
    for child in $(pgrep -P "$launcher"); do
        if tr '\0' '\n' < "/proc/$child/environ" | grep -qx "RANK=$rank"; then kill -9 "$child"; fi
    done
    SECONDS=0
    wait "$launcher"
    echo "$i: rank $rank killed, ended after $SECONDS s, rounds on disk: $(($(wc -l < killed/history.csv) - 1))"
done
torchrun --nproc-per-node=2 -m fedfast run "$config" --out killed --resume > last.log 2>&1
python - <<'END'
import pandas as pd
a, b = (pd.read_csv(f"{name}/history.csv") for name in ("whole", "killed"))
columns = [c for c in a.columns if "second" not in c]
print("equal to one process:", a[columns].equals(b[columns]))
END
