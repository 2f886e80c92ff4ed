"""`linear` and `linear_backward` beside torch's batched products; one thread, CPU time.

K clients, each with its own weights. "weights" is the backward pass of a first layer, which moves
the weights; "backward" that of another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from buffers import normal
from fedfast.kernels import linear, linear_backward
from marks import THREAD_TIME, beside
from sizes import pick

pytestmark = THREAD_TIME
K = pick(10, 2)
# (I, O) of the MLP and the CNN of McMahan et al. 2017, and two square-ish layers.
LAYERS = [(784, 200), (200, 200), (200, 10), (3136, 512), (1024, 512), (512, 1024)]
LAYERS, BATCHES = pick((LAYERS, [10, 50]), ([(16, 8)], [3]))
PARTS = {"forward": 1, "weights": 1, "backward": 2}  # products of each

Action = Callable[[], object]


def actions(batch: int, inputs: int, outputs: int) -> dict[tuple[str, str], Action]:
    """(contestant, part) -> what is timed."""
    x, dx = normal(K, batch, inputs), torch.empty(K, batch, inputs)
    w, b = normal(K, outputs, inputs) * inputs**-0.5, normal(K, outputs)
    out, dout = torch.empty(K, batch, outputs), normal(K, batch, outputs)
    turned, step = w.transpose(1, 2), {"alpha": -1e-6, "beta": 1.0}

    def weights(**more: object) -> None:
        linear_backward(x, w, out, dout, dweight=w, dbias=b, **step, **more)

    def bmm_weights() -> None:
        w.baddbmm_(dout.transpose(1, 2), x, alpha=-1e-6)

    def bmm_backward() -> None:
        torch.bmm(dout, w, out=dx)
        bmm_weights()

    return {
        ("fedfast", "forward"): lambda: linear(x, w, b, out=out),
        ("fedfast", "weights"): weights,
        ("fedfast", "backward"): lambda: weights(dx=dx),
        ("bmm", "forward"): lambda: torch.bmm(x, turned, out=out),
        ("bmm", "weights"): bmm_weights,
        ("bmm", "backward"): bmm_backward,
    }


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: "{}-{}".format(*layer))
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("part", PARTS)
@beside("bmm")
def test_linear(
    batch: int, layer: tuple[int, int], part: str, contestant: str, benchmark: Any
) -> None:
    benchmark.group = f"linear {layer[0]} -> {layer[1]}, B = {batch}, {part}"
    benchmark.extra_info["flops"] = 2 * K * batch * layer[0] * layer[1] * PARTS[part]
    action = actions(batch, *layer)[contestant, part]
    benchmark.pedantic(action, rounds=15, warmup_rounds=2)
