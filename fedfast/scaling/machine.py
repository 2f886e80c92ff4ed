"""What the machine can do at most: bandwidth, FLOP rate, cost of a call; measured, kept as JSON.

bandwidth  bytes/s read and written by a copy of arrays larger than the caches (as STREAM's copy)
flops      FLOP/s of a square float32 product (2 n^3 of them), the library's
call       seconds of one small torch operation called from Python
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

COPIED = 1 << 28  # bytes of each array
SIDE, ON_GPU = 1536, 8192  # of the product
LASTS = 0.4  # seconds of each measurement
TINY = 2000


@dataclass(frozen=True)
class Rates:
    """Of so many cores, or of a GPU."""

    bandwidth: float
    flops: float
    call: float


@dataclass(frozen=True)
class Machine:
    """A machine and its rates by number of threads, all ranks' together.

    private, shared  bytes of cache: of each core's own level 2, and of the last level
    """

    name: str
    cores: int
    private: int
    shared: int
    rates: dict[int, Rates]

    def of(self, threads: int) -> Rates:
        """The rates of so many threads, or of the next number there is."""
        return self.rates[min(self.rates, key=lambda t: (abs(t - threads), t))]

    def as_json(self) -> dict[str, object]:
        """Plain values, which `machine_from` reads."""
        return asdict(self)


def machine_from(kept: dict[str, object]) -> Machine:
    """What `as_json` gave. Raises KeyError, TypeError or ValueError for anything else."""
    rates = kept["rates"]
    if not isinstance(rates, dict):
        raise ValueError("rates: expected a mapping")
    by_threads = {int(t): Rates(**r) for t, r in rates.items()}
    caches = int(str(kept["private"])), int(str(kept["shared"]))
    return Machine(str(kept["name"]), int(str(kept["cores"])), *caches, by_threads)


def cores() -> int:
    """How many this process may use."""
    from joblib import cpu_count

    return int(cpu_count())


def measured(device: torch.device, threads: list[int]) -> Machine:
    """This machine, in some seconds; `threads` makes no difference on a GPU."""
    rates = {t: _rates(device, t) for t in sorted(set(threads))}
    return Machine(_name(device), cores(), *_caches(device), rates)


def _rates(device: torch.device, threads: int) -> Rates:
    import torch

    from ..torch_settings import torch_threads

    n = SIDE if device.type == "cpu" else ON_GPU
    with torch_threads(threads):
        source = torch.ones(COPIED // 4, device=device)
        target = torch.zeros_like(source)
        a, b = torch.ones(n, n, device=device), torch.ones(n, n, device=device)
        out, tiny = torch.empty_like(a), torch.zeros(1, device=device)

        def calls() -> None:
            for _ in range(TINY):
                tiny.add_(1.0)

        copy = _best(lambda: target.copy_(source), device)
        product = _best(lambda: torch.mm(a, b, out=out), device)
        return Rates(2 * COPIED / copy, 2.0 * n**3 / product, _best(calls, device) / TINY)


def _best(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of several calls."""
    import torch

    best, end = float("inf"), time.perf_counter() + LASTS
    work()
    while True:
        begin = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        best = min(best, now - begin)
        if now > end:
            return best


def _name(device: torch.device) -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _caches(device: torch.device) -> tuple[int, int]:
    """(level 2, last level), 0 where the system does not say."""
    import torch

    if device.type == "cuda":
        return 0, int(torch.cuda.get_device_properties(device).L2_cache_size)
    sizes = [0]
    for each in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if (each / "level").read_text().strip() in ("2", "3"):
            sizes.append(int((each / "size").read_text().strip().removesuffix("K")) << 10)
    return (sizes[1] if len(sizes) > 1 else 0), sizes[-1]
