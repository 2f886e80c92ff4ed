"""The `judge` fixture: a contest whose native side also appears in pytest-benchmark's table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import harness
import pytest
import torch


@pytest.fixture(params=harness.THREADS, ids=lambda n: f"threads={n}")
def threads(request: pytest.FixtureRequest) -> int:
    """The numbers of threads every form is measured with."""
    return request.param


@pytest.fixture
def judge(benchmark: Any, threads: int) -> Callable[..., harness.Row]:
    """`judge(operation, form, bytes_per_element, native, foreach, per_tensor)` -> its Row."""

    def hold(operation: str, form: str, size: float, native: harness.Action, *peers: Any) -> Any:
        row = harness.hold(operation, form, threads, size, native, *peers)
        torch.set_num_threads(threads)
        benchmark.extra_info.update(vars(row))
        benchmark.pedantic(native, rounds=3, warmup_rounds=1)
        print(
            f"\n{operation} {form} x{threads}: {row.gb_per_s:.1f} GB/s, "
            f"{row.ratio_copy:.0%} of copy, {row.ratio_foreach:.1f}x foreach, "
            f"{row.ratio_per_tensor:.1f}x per tensor"
        )
        return row

    return hold
