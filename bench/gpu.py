"""Everything that only a GPU can tell, in one process: `python bench/gpu.py --budget 480`.

    --sections a,b   some of them, in the order given; by default all
    --budget 480     seconds in all; a section that has spent its share ends, and the next begins
    --out FOLDER     where gpu.csv goes: a row for each figure, written as soon as it is known
    --rehearse       without a GPU: tiny sizes in Triton's interpreter, each action once. Rows are
                     marked "rehearsal" and hold no time; they are not kept in results/
    --write          keep the rows in results/gpu.csv, those of choices.csv in kernels/

sections  machine     versions, and what was built
          operations  every form of every operation launched once, beside the reference in float64;
                      each client alone to the bit
          runs        recorded steps are the eager run to the bit; algorithms beside the CPU's runs
          ceilings    copies, products by precision, an empty launch and graph
          kernels     operations and layers from memory, beside cuDNN's grouped convolution, a loop
          factors     SAM's dense layers, gradients written or kept as factors
          choices     where cuDNN or cuBLAS beats Triton with the same promises: rows of choices.csv
          rounds      W1 to W5 beside a script of torch and vmap, and what the host takes of a round
          memory      the most that runs allocate, beside their plan
          long        FedGloSS for 200 rounds; the mean of 1,000 models of 0.8 M parameters

The last lines are a short table, and what has to be reached. See docs/gpu.md.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from gpu_sections.campaign import Campaign

SHARES = {
    "machine": 0.02,
    "operations": 0.18,
    "runs": 0.18,
    "ceilings": 0.04,
    "kernels": 0.14,
    "factors": 0.06,
    "choices": 0.1,
    "rounds": 0.2,
    "memory": 0.03,
    "long": 0.08,
}


QUIET = ("rounds", "long")  # sections that time the host: nothing compiles beside them
WIDTHS = (10, 44, 22, 9, 8)  # of columns of headlines
BARS = (36, 28, 10, 16, 12)  # of columns of the bars


class OutOfTime(BaseException):
    """A section has spent its share. No Exception: what is tried and fails must not swallow it."""


def _stop(*_: object) -> None:
    raise OutOfTime


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raises OutOfTime within, between two instructions of Python, when the time is over."""
    signal.signal(signal.SIGALRM, _stop)
    # Again each second: one that is lost in a clean-up, which may raise errors of its own.
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01), 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sections", default=",".join(SHARES))
    parser.add_argument("--budget", type=float, default=480.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args(argv)
    given.sections = given.sections.split(",")
    if unknown := sorted(set(given.sections) - set(SHARES)):
        parser.error(f"--sections: expected some of {', '.join(SHARES)}; got {', '.join(unknown)}")
    if given.write and given.rehearse:
        parser.error("--write keeps what a GPU gave; got --rehearse beside it")
    return given


def main(argv: Sequence[str] | None = None) -> int:
    """1 where a section failed; time that ran out is no failure."""
    given = arguments(argv)
    if given.rehearse:
        os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it as it is imported
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch, before its first product
    import torch
    from gpu_sections import bars, choices, compiling, machine
    from gpu_sections.campaign import Campaign

    if not given.rehearse and not torch.cuda.is_available():
        print("gpu.py: no GPU here; --rehearse tries everything without one", file=sys.stderr)
        return 2
    folder = given.out or Path(tempfile.mkdtemp(prefix="fedfast-gpu-"))
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cpu") if given.rehearse else torch.device("cuda", 0)
    compilers = _compilers(given, device, folder)
    campaign = Campaign(device, folder / "gpu.csv", given.rehearse, machine.stamp(device))
    before = campaign.known()
    try:
        failed = _run(given, campaign, compilers)
    finally:
        compiling.end(compilers)
    judged = bars.judged(campaign)
    if given.write:
        _keep(campaign.path, before)
    if given.write and "choices" in given.sections:
        choices.keep(campaign)
    print(f"rows: {campaign.path}")
    _show(campaign.headlines, WIDTHS)
    print("\nbars")
    _show(judged, BARS)
    return int(failed)


def _compilers(given: argparse.Namespace, device: torch.device, folder: Path) -> list[Popen]:
    """Processes that compile for the device what the sections are going to launch."""
    import torch
    from gpu_sections import compiling

    if device.type != "cuda":
        return []
    major, minor = torch.cuda.get_device_capability(device)
    return compiling.processes(given.sections, 10 * major + minor, folder)


def _run(given: argparse.Namespace, campaign: Campaign, compilers: Sequence[Popen] = ()) -> bool:
    """All sections, each within its share of what is left of the budget; whether one failed."""
    from gpu_sections import compiling
    from gpu_sections.campaign import DeviceLost

    end, failed = time.monotonic() + given.budget, False
    for i, name in enumerate(given.sections):
        share = SHARES[name] / sum(SHARES[n] for n in given.sections[i:])
        seconds = share * (end - time.monotonic())
        campaign.section, campaign.until = name, time.monotonic() + seconds
        begin = time.monotonic()
        if name in QUIET and (late := compiling.end(compilers)):
            campaign.row("compilers", "stopped", float(late))
        try:
            with limit(seconds):
                import_module(f"gpu_sections.{name}").run(campaign)
            how = "done"
        except OutOfTime:
            how = "out of time"
        except DeviceLost as error:
            campaign.row(name, "section", f"{error}", headline=True)
            print(f"{error}\nto go on: --sections {','.join(given.sections[i + 1 :])}", flush=True)
            return True
        except Exception as error:  # the next section may still give its figures
            traceback.print_exc()
            how, failed = f"{type(error).__name__}: {error}".splitlines()[0], True
        campaign.row(name, "section", how, headline=True)
        print(f"{name}: {how}, {time.monotonic() - begin:.0f} s", flush=True)
    return failed


def _show(lines: Iterable[Sequence[str]], widths: Sequence[int]) -> None:
    """A table."""
    for line in lines:
        print("  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)))


def _keep(path: Path, before: int) -> None:
    """Rows but the first `before` of them, behind those of earlier campaigns."""
    kept = Path(__file__).parent / "results" / "gpu.csv"
    head, *rows = path.read_text().splitlines(keepends=True)
    new = not kept.exists()
    with kept.open("a") as file:
        file.writelines([head] * new + rows[before:])


if __name__ == "__main__":
    sys.exit(main())
