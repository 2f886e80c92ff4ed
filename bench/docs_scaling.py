"""Makes docs/scaling/: `python bench/docs_scaling.py`, some seven minutes on 2 quiet cores.

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
    --cohort 10,100,1000,10000 --held-out 9 --seconds 0.6 --repeats 3 --out build/scaling"""
RANKS = """\
fedfast scale docs/scaling/study.yaml --clients 100000 --cohort 100,1000,10000 --ranks 2
    --algorithms fedavg --held-out 1 --seconds 0.6 --repeats 3 --out build/scaling"""
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


def main() -> None:
    """Measures, then copies what the page shows."""
    busy = "--busy" in sys.argv
    output = run(FEW) if busy else run(RANKS) and run(STUDY)
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
