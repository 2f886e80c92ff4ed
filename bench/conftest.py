"""The `compare` fixture: `harness.compare`, its native side also in pytest-benchmark's table."""

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
def compare(benchmark: Any, threads: int) -> Callable[..., dict[str, Any]]:
    """`compare(operation, form, bytes_per_element, native, foreach, per_tensor)` -> its row."""

    def run(operation: str, form: str, size: float, native: harness.Action, *others: Any) -> Any:
        row = harness.compare(operation, form, threads, size, native, *others)
        torch.set_num_threads(threads)
        benchmark.extra_info.update(row)
        benchmark.pedantic(native, rounds=3, warmup_rounds=1)
        print(
            f"\n{operation} {form} x{threads}: {row['gb_per_s']:.1f} GB/s, "
            f"{row['ratio_copy']:.0%} of copy, {row['ratio_foreach']:.1f}x foreach, "
            f"{row['ratio_per_tensor']:.1f}x per tensor"
        )
        return row

    return run
