"""The resident MLP's machine code for Hopper: registers, memory, and what its inner loops are."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import kernel_budgets
import pytest
import resident_code
from resident_code import call

SAMPLES = (4, 8, 10)  # of a tile of the products: a kernel for each
HEIGHTS = range(1, 9)

triton = find_spec("triton")
TOOLS = Path(triton.origin).parent / "backends/nvidia/bin" if triton and triton.origin else Path()

pytestmark = [
    pytest.mark.skipif(resident_code.NVCC is None, reason="nvcc is not installed"),
    pytest.mark.skipif(not (TOOLS / "nvdisasm").exists(), reason="Triton's nvdisasm is not there"),
]


@pytest.fixture(scope="module")
def cubin(tmp_path_factory):
    made = tmp_path_factory.mktemp("cubin") / "resident.cubin"
    made.write_bytes(resident_code.cubin())
    return made


@pytest.fixture(scope="module")
def kernels(cubin):
    """Samples of a tile -> label -> instructions up to the next label or branch."""
    found: dict[int, dict[str, list[str]]] = {}
    block: list[str] = []
    for line in call(TOOLS / "nvdisasm", "-c", cubin).splitlines():
        if named := re.search(r"^\.text\.\w*residentILi(\d+)E", line):
            blocks = found[int(named[1])] = {}
        elif label := re.match(r"(\.L_x_\d+):", line):
            block = blocks[label[1]] = []
        elif code := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", line):
            block.append(code[1])
            if re.search(r"\bBRA\b", code[1]):
                block = []
    return found


def loops(blocks):
    """Loops without a branch within them that multiply and add a hundred times."""
    for label, block in blocks.items():
        if block and re.search(rf"\bBRA `?\(?{re.escape(label)}\b", block[-1]):
            if count(block, "FFMA") >= 100:
                yield block


def count(block, name):
    return sum(bool(re.search(rf"(^|\s){name}\b", code)) for code in block)


def test_nothing_spills_and_a_block_may_have_all_of_shared_memory(cubin):
    used = call(TOOLS / "cuobjdump", "--dump-resource-usage", cubin)
    rows = re.findall(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", used)
    assert len(rows) == len(SAMPLES)
    for registers, stack, shared, local in (map(int, row) for row in rows):
        assert registers <= 255 and stack == 0 and local == 0
        assert shared <= 1024  # the system's own, beside the 227 KB of a launch


def test_nothing_is_kept_in_local_memory(kernels):
    for blocks in kernels.values():
        assert not any(count(block, "(LDL|STL)(\\.\\w+)*") for block in blocks.values())


@pytest.mark.parametrize("samples", SAMPLES)
def test_products_read_shared_memory_16_bytes_at_a_time(kernels, samples):
    """A tile of h x S sums: per column of four h + S reads and 4 h S multiply-adds, little else."""
    found = set()
    for block in loops(kernels[samples]):
        products, wide = count(block, "FFMA"), count(block, "LDS\\.128")
        assert count(block, "LDS(?!\\.128)") == 0, block
        assert count(block, "(LDG|STG|LD|ST|STS)") == 0, block
        assert products >= 0.7 * len(block)
        found.add((products, wide))
    wanted = {(4 * h * samples, h + samples) for h in HEIGHTS if 4 * h * samples >= 100}
    assert wanted <= found
    assert (128, 12) in found  # of the weights' gradient: 8 x 4 sums, four samples


def test_kernels_stay_within_their_budgets(cubin):
    """Instructions of the kernels and of the products' loop; a block has its multiprocessor."""
    if f"release {kernel_budgets.NVCC}," not in call(resident_code.NVCC, "--version"):
        pytest.skip(f"budgets are those of nvcc {kernel_budgets.NVCC}")
    rows = kernel_budgets.keyed(resident_code.rows(cubin.read_bytes()))
    budgets = kernel_budgets.table("resident.cu")
    assert rows.keys() == budgets.keys()
    for key, row in rows.items():
        assert budgets[key].broken(row) == [] and not budgets[key].outdated(row), key
