"""Machine code of compiled kernels: how many instructions the loops have, and of which kinds."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_LINE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_.]+)([^;]*);")


@dataclass(frozen=True)
class Loop:
    """From the target of a jump back to the jump: addresses, and how often operations occur."""

    begin: int
    end: int
    operations: Counter[str]

    @property
    def instructions(self) -> int:
        """All of them."""
        return sum(self.operations.values())

    def of(self, *names: str) -> int:
        """How many begin with one of the names, e.g. "HMMA"."""
        return sum(n for name, n in self.operations.items() if name.startswith(names))


def cuobjdump(cubin: bytes, what: str) -> str:
    """What the tool of Triton's wheel prints of a cubin."""
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), what, file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def sass(cubin: bytes) -> list[tuple[int, str, str]]:
    """(address, operation, operands) of every instruction."""
    found = (_LINE.match(line) for line in cuobjdump(cubin, "-sass").splitlines())
    return [(int(m[1], 16), m[2], m[3]) for m in found if m]


def loops(cubin: bytes) -> list[Loop]:
    """Those that have no other loop within, the longest first."""
    code = sass(cubin)
    back = _jumps_back(code)
    inner = [
        (to, at)
        for to, at in back
        if not any((to, at) != (a, b) and to <= a and b <= at for a, b in back)
    ]
    found = [
        Loop(to, at, Counter(name for address, name, _ in code if to <= address <= at))
        for to, at in inner
    ]
    return sorted(found, key=lambda loop: -loop.instructions)


def _jumps_back(code: list[tuple[int, str, str]]) -> list[tuple[int, int]]:
    """(target, address) of every jump to an instruction before it."""
    jumps = [
        (int(target[1], 16), address)
        for address, operation, operands in code
        if operation.startswith("BRA") and (target := re.search(r"0x([0-9a-f]+)", operands))
    ]
    return [(to, at) for to, at in jumps if to < at]


def in_flight(cubin: bytes) -> int:
    """In the longest loop: the most 16-byte loads from global memory that are begun before one's
    result is used."""
    code = sass(cubin)
    begin, end = max(_jumps_back(code), key=lambda jump: jump[1] - jump[0])
    waiting: list[int] = []
    most = 0
    for _, operation, operands in (line for line in code if begin <= line[0] <= end):
        registers = [int(r) for r in re.findall(r"\bR(\d+)", operands)]
        if any(first <= r < first + 4 for first in waiting for r in registers):
            waiting = []
        if operation.startswith("LDG") and operation.endswith(".128"):
            waiting.append(registers[0])
            most = max(most, len(waiting))
    return most
