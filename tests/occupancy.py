"""How many programs of a kernel a multiprocessor of compute capability 9.0 holds at a time.

By the rules of the CUDA C++ Programming Guide ("Compute Capabilities", table of technical
specifications) and of `cuda_occupancy.h`, which `test_occupancy.py` compares this with. Registers
are given to warps in units of 256, a quarter of the file to each quarter of the multiprocessor;
shared memory in units of 128 bytes, with 1 KB of each program for the system.
"""

from __future__ import annotations

MULTIPROCESSORS = 132  # of an H100 or H200 SXM
REGISTERS, REGISTER_UNIT, QUARTERS = 65_536, 256, 4
SHARED, SHARED_UNIT, RESERVED = 228 * 1024, 128, 1024
MOST_SHARED = SHARED - RESERVED  # of one program
MOST_WARPS, MOST_PROGRAMS, MOST_REGISTERS = 64, 32, 255  # the last of a thread


def _up(n: int, unit: int) -> int:
    return -(-n // unit) * unit


def programs(registers: int, shared: int, threads: int) -> int:
    """Programs of so many registers a thread, bytes of shared memory of its own, and threads.

    ValueError: no program of these sizes can be launched.
    """
    warps = -(-threads // 32)
    of_warp = _up(32 * registers, REGISTER_UNIT)
    if not 0 < threads <= 1024 or not 0 < registers <= MOST_REGISTERS:
        raise ValueError(f"1 to 1024 threads of 1 to 255 registers; got {threads} of {registers}")
    if of_warp * _up(warps, QUARTERS) > REGISTERS or not 0 <= shared <= MOST_SHARED:
        raise ValueError(f"{threads} threads of {registers} registers, {shared} bytes: too many")
    in_registers = REGISTERS // QUARTERS // of_warp * QUARTERS // warps
    in_shared = SHARED // _up(shared + RESERVED, SHARED_UNIT)
    return min(in_registers, in_shared, MOST_WARPS // warps, MOST_PROGRAMS)


def resident_warps(registers: int, shared: int, threads: int) -> int:
    """Warps of those programs, of 64; arguments and errors: see `programs`."""
    return programs(registers, shared, threads) * -(-threads // 32)
