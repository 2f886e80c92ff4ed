"""Makes docs/scaling/: `python bench/docs_scaling.py`, some nine minutes on 2 quiet cores.

    --busy  fewer sizes, and a line in results.md that other processes were running

What was measured stays in build/scaling/: the command goes on where it was stopped. Remove the
folder to measure anew.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS, WORK = ROOT / "docs" / "scaling", ROOT / "build" / "scaling"
CONFIG = "docs/scaling/study.yaml"
FEW = """\
fedfast scale docs/scaling/study.yaml --clients 1000,100000 --cohort 10,100,1000
    --algorithms fedavg,feddyn --held-out 4 --seconds 1 --out build/scaling"""
STUDY = """\
fedfast scale docs/scaling/study.yaml --clients 1000,30000,1000000
    --cohort 10,100,1000,10000 --held-out 9 --seconds 0.5 --out build/scaling"""
RANKS = """\
fedfast scale docs/scaling/study.yaml --clients 100000 --cohort 100,1000,10000 --ranks 2
    --algorithms fedavg,feddyn --held-out 2 --seconds 0.5 --out build/scaling"""
VISITS = 3  # in turns with all other rows
BUSY = (
    "\n**Measured while other processes were running: a first version, whose figures are rough.**\n"
)
PAGE = """\
# What was measured

Made by `python bench/docs_scaling.py`; how to read it: [scaling studies](index.md).
{busy}
```
{output}
```

![Seconds of a round by clients in it](cohort.png)
![Clients per second](throughput.png)
![Seconds of a round by clients there are](clients.png)
![Resident bytes](memory.png)
{phases}
![Predicted and measured rounds](model.png)
"""


def run(command: str) -> str:
    """What the command prints from its tables on."""
    words = [sys.executable, "-m", *command.split()]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout


def studied() -> str:
    """Visits all rows of one rank and of two, then again, so that visits are spread over the whole.

    Rows whose two fastest visits are alike are left out of further turns.
    """
    for visits in range(1, VISITS + 1):
        run(f"{RANKS} --repeats {visits}")
        output = run(f"{STUDY} --repeats {visits}")
    return output


def main() -> None:
    """Measures, then copies what the page shows."""
    busy = "--busy" in sys.argv
    output = run(FEW) if busy else studied()
    lines = [line.rstrip() for line in output.splitlines() if not line.startswith("[")]
    for path in DOCS.glob("*.png"):
        path.unlink()
    for path in (*WORK.glob("*.png"), *(WORK / name for name in ("scale.csv", "model.json"))):
        shutil.copyfile(path, DOCS / path.name)
    phases = sorted(path.name for path in WORK.glob("phases-*.png"))
    page = PAGE.format(
        busy=BUSY if busy else "",
        output="\n".join(lines[1:-2]).strip(),
        phases="\n".join(f"![Seconds of each phase]({name})" for name in phases),
    )
    (DOCS / "results.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
