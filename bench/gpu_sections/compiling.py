"""Triton's kernels compiled ahead, in processes beside the campaign, into Triton's cache on disk.

A kernel takes a core a second or two, most of it in Python and in code that holds Python's lock:
threads would not help. So each of some processes runs what a section launches on the emulated
device of the tests, where nothing is computed, and hands every COUNT-th form of a kernel to
Triton's own binder and compiler for a device that is not there (`tests/fake_gpu.py`). What the
campaign launches later it finds in the cache; what is not there yet it compiles itself. A process:

    python bench/gpu_sections/compiling.py SECTIONS INDEX COUNT CAPABILITY
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpu_sections.campaign import Campaign

BENCH = Path(__file__).parents[1]
SECTIONS = ("operations", "runs", "kernels", "factors", "choices", "rounds", "long")
COMMAND = [sys.executable, __file__]
SPARE = 1  # cores that the campaign's own process has
MOST = 16  # processes: a container may have fewer cores than it shows


def processes(sections: Sequence[str], capability: int, folder: Path) -> list[subprocess.Popen]:
    """Begin; what they print goes to a file in `folder`."""
    wanted = [name for name in sections if name in SECTIONS]
    cores = min(MOST, len(os.sched_getaffinity(0)))
    count = max(1, cores - SPARE) if wanted else 0
    hidden = dict(CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1")
    started = []
    for index in range(count):
        given = (",".join(wanted), index, count, capability)
        with (folder / "compiling.txt").open("a") as file:
            streams: dict[str, Any] = dict(stdout=file, stderr=subprocess.STDOUT)
            command = [*COMMAND, *map(str, given)]
            started.append(subprocess.Popen(command, env=os.environ | hidden, **streams))
    return started


def end(started: Sequence[subprocess.Popen]) -> int:
    """Stop those that still compile; how many that were."""
    late = [process for process in started if process.poll() is None]
    for process in late:
        process.kill()
    for process in late:
        process.wait()
    return len(late)


@contextmanager
def counted(campaign: Campaign | None = None) -> Iterator[Counter[str]]:
    """How many kernels were "compiled" within, and how many "found" in the cache on disk: two rows
    of the campaign, where one is given."""
    from triton import knobs

    found: Counter[str] = Counter()

    def heard(*, cache_hit: bool, **_: Any) -> None:
        found["found" if cache_hit else "compiled"] += 1

    before, knobs.compilation.listener = knobs.compilation.listener, heard
    try:
        yield found
    finally:
        knobs.compilation.listener = before
        if campaign is not None:
            for how in ("compiled", "found"):
                campaign.row("kernels", how, float(found[how]))


def share(kernel: Any, args: Any, meta: dict[str, Any], count: int) -> int:
    """Whose a launch is: the same for all that Triton compiles once, as its own binder has it."""
    from triton.runtime import driver

    *_, bind = kernel.device_caches[driver.active.get_current_device()]
    _, specialization, options = bind(*args, **meta)
    text = f"{kernel.fn.__name__} {specialization} {sorted(options.items())}"
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % count


def main(
    sections: str, index: int, count: int, capability: int, whole: bool = True
) -> Counter[str]:
    """Compile this process's share of what the sections launch, in their order.

    whole  to machine code, not only to Triton's own representation
    """
    sys.path[:0] = [str(BENCH), str(BENCH.parent / "tests")]
    import fake_gpu
    from campaign_device import campaign_device
    from compiling_device import Ahead, Compiling

    fake_gpu.use(capability, whole)
    campaign = os.getppid()

    def own(*launch: Any) -> bool:
        if os.getppid() != campaign:  # it was killed, and cannot end this one
            raise SystemExit("the campaign is gone")
        return share(*launch, count) == index

    device = Compiling(own)
    with campaign_device(device), counted() as found:
        for name in sections.split(","):
            section = import_module(f"gpu_sections.{name}")
            try:
                getattr(section, "launches", section.run)(Ahead())
            except Exception as error:  # the campaign compiles the rest
                print(f"{name}: {type(error).__name__}: {error}")
            print(f"{index} of {count}, {name}: {dict(found)} {dict(device.errors)}", flush=True)
    return found


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
