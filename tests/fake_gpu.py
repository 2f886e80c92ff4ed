"""A GPU that is not there: Triton binds, specialises and compiles for it, then launches nothing.

`kernel[grid](...)` takes the way it takes on a device, through Triton's own argument binder, and
ends in `Launcher`, which checks what the generated launcher would do with every argument: unpack
it by the compiled signature, and fit it into its C type. Works in a process without
TRITON_INTERPRET; tensors stay on the CPU or are "meta" tensors. Compiling ends with machine code,
or (`use(..., whole=False)`) with Triton's own representation, typed but not yet laid out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

SHARED = {80: 166_912, 90: 232_448}  # bytes a program may have, by compute capability
POINTERS = {torch.float32: "*fp32", torch.float64: "*fp64", torch.int32: "*i32"}
POINTERS |= {torch.int64: "*i64", torch.uint8: "*u8", torch.bool: "*i1"}
INTEGERS = {"i32": (-(2**31), 2**31), "i64": (-(2**63), 2**63), "u64": (0, 2**64)}
MOST_PROGRAMS = 2**31  # along the first axis of a grid; 65,536 along the others


def _leaves(kind: Any, value: Any) -> Iterator[tuple[str, Any]]:
    """(type, value) of every argument, tuples taken apart as the signature is."""
    if not isinstance(kind, tuple):
        yield kind, value
        return
    assert isinstance(value, tuple) and len(kind) == len(value), (kind, value)
    for inner, part in zip(kind, value, strict=True):
        yield from _leaves(inner, part)


def _check(name: str, kind: str, value: Any) -> None:
    if kind == "constexpr":
        return
    if kind.startswith("*"):
        assert isinstance(value, torch.Tensor) and kind == POINTERS[value.dtype], (name, kind)
    elif kind in INTEGERS:
        low, high = INTEGERS[kind]
        assert type(value) is int and low <= value < high, (name, kind, value)
    else:
        assert kind == "fp64" and isinstance(value, int | float), (name, kind, value)


class Launcher:
    """Where a launch ends: its arguments are what the kernel was compiled for."""

    def __init__(self, source: Any, metadata: Any) -> None:
        self.signature, self.metadata = source.signature, metadata

    def __call__(self, x: int, y: int, z: int, *rest: Any) -> None:
        assert 0 < x < MOST_PROGRAMS and y == z == 1, (x, y, z)
        assert not self.metadata.enable_fp_fusion
        values = rest[-len(self.signature) :]
        for (name, kind), value in zip(self.signature.items(), values, strict=True):
            for leaf, part in _leaves(kind, value):
                _check(name, leaf, part)


class _Utils:
    """What Triton asks of a device's library."""

    def load_binary(self, name: str, code: bytes, shared: int, device: int) -> tuple[int, ...]:
        """(module, function, registers, spills, threads)"""
        assert code and shared <= SHARED[device], (name, shared)
        return 1, 2, 0, 0, 1024

    def unload_module(self, module: int) -> None:
        pass

    def get_device_properties(self, device: int) -> dict[str, int]:
        return dict(max_shared_mem=SHARED[device], warpSize=32, max_num_regs=65_536)


class FakeGPU:
    """Triton's driver for devices numbered by their compute capability, e.g. 80 and 90."""

    utils, launcher_cls = _Utils(), Launcher

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return self.capability

    def get_current_stream(self, device: int | None = None) -> int:
        return 0


def _first_stage(*given: Any) -> tuple[str, str] | None:
    """Triton's hook on the stages of compiling: all after the first make nothing.

    Called without arguments it names itself, for the keys of Triton's caches.
    """
    if not given:
        return "first stage", "first stage"
    stages = given[1]
    for name in list(stages)[1:-1]:
        del stages[name]
    stages["cubin"] = _no_code
    return None


def _no_code(module: Any, metadata: dict[str, Any]) -> bytes:
    """In the place of a program: what later stages would have noted, and something to load."""
    metadata |= dict(name="none", shared=0, tmem_size=0)
    return b"none"


def use(capability: int, whole: bool = True) -> None:
    """Make it the device of this process's next launches; whole: compile to machine code."""
    driver.set_active(FakeGPU(capability))
    knobs.runtime.add_stages_inspection_hook = None if whole else _first_stage
