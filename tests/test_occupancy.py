"""Occupancy from registers, shared memory and threads: by hand, and as CUDA's header has it."""

from __future__ import annotations

import os
import shutil
import subprocess
from itertools import product
from pathlib import Path

import occupancy
import pytest

# registers a thread, bytes of shared memory, threads -> programs, worked out by hand
BY_HAND = {
    (32, 0, 128): 16,  # 64 warps / 4
    (16, 0, 32): 32,  # no more programs than 32, though they are half of the warps
    (33, 0, 128): 12,  # 33 x 32 = 1056 -> 1280 a warp; 16384 / 1280 = 12 a quarter, 48 warps / 4
    (64, 0, 256): 4,  # 2048 a warp, 8 a quarter, 32 warps / 8
    (65, 0, 256): 3,  # 2304 a warp, 7 a quarter, 28 warps / 8
    (128, 0, 256): 2,  # 4096 a warp, 16 warps / 8
    (168, 0, 128): 3,  # 5376 a warp, 3 a quarter, 12 warps / 4
    (255, 0, 256): 1,  # 8160 -> 8192 a warp, 8 warps / 8
    (32, 48 * 1024, 128): 4,  # 228 KB / 49 KB
    (32, 56 * 1024, 128): 4,  # 228 KB / 57 KB, to the byte
    (32, 56 * 1024 + 1, 128): 3,  # 57 KB and a unit of 128 bytes
    (32, 227 * 1024, 1024): 1,  # all of it
    (40, 0, 96): 16,  # 1280 a warp, 48 warps / 3
}


@pytest.mark.parametrize("sizes", BY_HAND)
def test_programs_are_those_computed_by_hand(sizes: tuple[int, int, int]) -> None:
    assert occupancy.programs(*sizes) == BY_HAND[sizes]
    assert occupancy.resident_warps(*sizes) == BY_HAND[sizes] * sizes[2] // 32


@pytest.mark.parametrize(
    "sizes", [(256, 0, 32), (32, 227 * 1024 + 1, 32), (72, 0, 1024), (32, 0, 1025), (0, 0, 32)]
)
def test_what_no_multiprocessor_holds_is_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError):
        occupancy.programs(*sizes)


SOURCE = """
#include <cstdio>
#include <cuda_occupancy.h>
int main() {
  cudaOccDeviceProp p{};
  p.computeMajor = 9, p.maxThreadsPerBlock = 1024, p.maxThreadsPerMultiprocessor = 2048;
  p.regsPerBlock = p.regsPerMultiprocessor = 65536, p.warpSize = 32, p.numSms = 132;
  p.sharedMemPerBlock = 48 << 10, p.sharedMemPerMultiprocessor = 228 << 10;
  p.sharedMemPerBlockOptin = 227 << 10, p.reservedSharedMemPerBlock = 1 << 10;
  cudaOccDeviceState state;
  state.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
  int registers, threads;
  size_t shared;
  while (scanf("%d %zu %d", &registers, &shared, &threads) == 3) {
    cudaOccFuncAttributes a{};
    a.maxThreadsPerBlock = 1024, a.numRegs = registers;
    a.maxDynamicSharedSizeBytes = 227 << 10, a.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    cudaOccResult r;
    if (cudaOccMaxActiveBlocksPerMultiprocessor(&r, &p, &a, &state, threads, shared)) return 1;
    printf("%d\\n", r.activeBlocksPerMultiprocessor);
  }
}
"""


def header() -> Path | None:
    """The folder of CUDA's header, beside nvcc."""
    home = os.environ.get("CUDA_HOME")
    nvcc = shutil.which("nvcc", path=f"{home}/bin" if home else None)
    root = Path(nvcc).resolve().parents[1] if nvcc else Path("/usr/local/cuda")
    folders = root / "include", root / "targets/x86_64-linux/include"
    return next((each for each in folders if (each / "cuda_occupancy.h").exists()), None)


def test_programs_are_those_of_the_header_of_cuda(tmp_path: Path) -> None:
    include = header()
    if include is None:
        pytest.skip("cuda_occupancy.h is not installed")
    (tmp_path / "calls.cpp").write_text(SOURCE)
    command = ["c++", "-w", f"-I{include}", "calls.cpp", "-o", "calls"]
    subprocess.run(command, cwd=tmp_path, check=True)
    sizes = list(product(range(1, 256), (0, 1000, 9 << 10, 57 << 10, 227 << 10), (32, 96, 128)))
    sizes += list(product(range(1, 256, 3), (0, 40 << 10, 113 << 10), (256, 512, 1024)))
    given = "\n".join(" ".join(map(str, each)) for each in sizes)
    done = subprocess.run(
        [tmp_path / "calls"], input=given, capture_output=True, text=True, check=True
    )
    assert [counted(*each) for each in sizes] == [int(n) for n in done.stdout.split()]


def counted(registers: int, shared: int, threads: int) -> int:
    """`occupancy.programs`, 0 for what cannot be launched."""
    try:
        return occupancy.programs(registers, shared, threads)
    except ValueError:
        return 0
