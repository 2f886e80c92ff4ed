"""What one call of an operation costs before any arithmetic: two clients of 64 numbers.

Checks, overlap and the call of the compiled module are all that takes time. One thread, CPU time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fedfast.kernels import linear, linear_backward, mix, step
from marks import THREAD_TIME

pytestmark = THREAD_TIME


def operations() -> dict[str, Callable[[], object]]:
    """Calls of four operations on tiny buffers that stay."""
    w, g, out = (torch.randn(2, 64) for _ in range(3))
    x, weight, bias = torch.randn(2, 4, 8), torch.randn(2, 8, 8), torch.randn(2, 8)
    y, dy, dx = (torch.randn(2, 4, 8) for _ in range(3))
    dweight, dbias = torch.empty(2, 8, 8), torch.empty(2, 8)
    written = dict(dx=dx, dweight=dweight, dbias=dbias)
    return {
        "step": lambda: step(w, g, 0.1, out=out),
        "mix": lambda: mix(w, g, 0.5, 0.5, out=out),
        "linear": lambda: linear(x, weight, bias, out=y),
        "linear_backward": lambda: linear_backward(x, weight, y, dy, **written),
    }


@pytest.mark.parametrize("name", operations())
def test_call(name: str, benchmark: Any) -> None:
    benchmark.group = "one call"
    benchmark.pedantic(operations()[name], rounds=9, iterations=5000, warmup_rounds=1)
