"""Machine code of compiled kernels: what they take, how long loops are, and of which kinds."""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_LINE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_.]+)([^;]*);")
SIZE = 16  # bytes of an instruction
TENSOR_CORES = "HMMA", "HGMMA", "DMMA"
Instruction = tuple[int, str, str]  # address, operation, operands
Code = list[Instruction]


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


def printed(tool: str, content: bytes, *options: str) -> str:
    """What a tool of Triton's wheel prints of a file with this content."""
    import triton

    path = Path(triton.__file__).parent / "backends/nvidia/bin" / tool
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(content)
        file.flush()
        command = [str(path), *options, file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def resources(cubin: bytes) -> dict[str, dict[str, int]]:
    """REG, STACK, SHARED (1 KB of it the system's) and LOCAL of each kernel, by mangled name."""
    text = printed("cuobjdump", cubin, "--dump-resource-usage")
    used = re.findall(r"Function (\S+):\s+(.*)", text)
    pairs = {name: re.findall(r"\b(REG|STACK|SHARED|LOCAL):(\d+)", line) for name, line in used}
    return {name: {key: int(n) for key, n in found} for name, found in pairs.items()}


def texts(cubin: bytes) -> dict[str, bytes]:
    """The code of each kernel: the sections .text.NAME of a 64-bit ELF file."""
    (table,) = struct.unpack_from("<Q", cubin, 0x28)
    size, count, names = struct.unpack_from("<HHH", cubin, 0x3A)
    sections = [struct.unpack_from("<IIQQQQ", cubin, table + i * size) for i in range(count)]
    found = {}
    for name, _, _, _, offset, length in sections:
        begin = sections[names][4] + name
        title = cubin[begin : cubin.index(0, begin)].decode()
        if title.startswith(".text."):
            found[title.removeprefix(".text.")] = cubin[offset : offset + length]
    return found


def disassembled(parts: Sequence[bytes]) -> list[Code]:
    """The instructions of each code of compute capability 9.0.

    In one call, of which starting is what takes time. Jumps are relative, so that codes behind each
    other are what they were; addresses are those of all together.
    """
    text = printed("nvdisasm", b"".join(parts), "--binary", "SM90") if parts else ""
    found = (_LINE.match(line) for line in text.splitlines())
    code = iter([(int(m[1], 16), m[2], m[3]) for m in found if m])
    split = [[next(code) for _ in range(len(part) // SIZE)] for part in parts]
    return [_trimmed(each) for each in split]


def _trimmed(code: Code) -> Code:
    """Without the jump to itself and what fills up behind it."""
    while code and (code[-1][1] == "NOP" or _target(code[-1]) == code[-1][0]):
        code.pop()
    return code


def _target(instruction: Instruction) -> int | None:
    """Where a branch goes."""
    _, operation, operands = instruction
    found = re.search(r"0x([0-9a-f]+)", operands) if operation.startswith("BRA") else None
    return int(found[1], 16) if found else None


def _jumps_back(code: Code) -> Iterator[tuple[int, int]]:
    for each in code:
        to = _target(each)
        if to is not None and to < each[0]:
            yield to, each[0]


def loops(code: Code) -> list[Loop]:
    """Those that have no other loop within, the longest first."""
    back = list(_jumps_back(code))
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


def _work(loop: Loop) -> tuple[int, int, int]:
    return loop.of(*TENSOR_CORES), loop.of("FFMA"), loop.instructions


def counts(code: Code) -> dict[str, int]:
    """Instructions of a kernel and of its main loop, and of which kinds they are.

    The main loop is the inner one that multiplies most, and the longest of those.

    products, group_products  by tensor cores; of those by a group of four warps
    calls  of functions within loops, whose instructions the loop's number lacks: divisions of 64
           bits, square roots and quotients where numbers are out of the ordinary
    """
    inner = loops(code)
    main = max(inner, key=_work, default=Loop(0, 0, Counter()))
    return dict(
        code=len(code),
        loop=main.instructions,
        products=main.of(*TENSOR_CORES),
        group_products=main.of("HGMMA"),
        fused=main.of("FFMA"),
        calls=sum(loop.of("CALL") for loop in inner),
        local=sum(name.startswith(("LDL", "STL")) for _, name, _ in code),
    )


def in_flight(code: Code) -> int:
    """In the longest loop: the most 16-byte loads from global memory that are begun before one's
    result is used."""
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
