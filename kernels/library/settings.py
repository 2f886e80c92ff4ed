"""Switches of torch's that decide which algorithm cuBLAS and cuDNN take, set for a while.

They are the process's: whoever calls a library on another thread meanwhile has them too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

Flags = Any  # parts of torch.backends, whose attributes are not typed
ALLOW = ("tf32", "bf16")  # "tf32x3" is as exact as "fp32", which one TF32 product is not
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # read by torch before its first product


def fix_workspace() -> str:
    """cuBLAS' workspace, which its algorithms depend on: `:4096:8` unless the user has chosen."""
    return os.environ.setdefault(WORKSPACE, ":4096:8")


@contextmanager
def settled(precision: str) -> Iterator[None]:
    """Algorithms that are chosen by shapes alone and add in one order, rounding as `rounding`."""
    cudnn: Flags = torch.backends.cudnn
    before = cudnn.enabled, cudnn.benchmark, cudnn.deterministic
    cudnn.enabled, cudnn.benchmark, cudnn.deterministic = True, False, True
    try:
        with rounding(precision):
            yield
    finally:
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic = before


@contextmanager
def rounding(precision: str) -> Iterator[None]:
    """Torch's flags as `precision` has them; the user's own come back, also after errors."""
    flags, ways = _flags()
    try:
        for owner, _ in flags:
            owner.allow_tf32 = precision in ALLOW
        yield
    finally:
        for owner, allowed in flags:
            if allowed is not None:
                owner.allow_tf32 = allowed
        for owner, way in ways:
            if owner.fp32_precision != way:
                owner.fp32_precision = way


def _flags() -> tuple[list[tuple[Flags, bool | None]], list[tuple[Flags, str]]]:
    """The old switches, None where the new ones are set otherwise, and the new ones."""
    backends: Flags = torch.backends
    switches: list[Flags] = [backends.cuda.matmul, backends.cudnn]
    ways: list[Flags] = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    return [(owner, _read(owner)) for owner in switches], [(w, w.fp32_precision) for w in ways]


def _read(owner: Flags) -> bool | None:
    try:
        return bool(owner.allow_tf32)
    except RuntimeError:  # torch refuses to answer where the new switches were used
        return None
