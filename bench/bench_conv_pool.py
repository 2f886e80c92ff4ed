"""`conv_pool` beside `conv` and `pool`: K clients, forward and backward, client by client.

The layers are those of `bench_conv.py` that have pooling behind them, run as a local step runs
them: recorded in plans, dx where a layer is not the first. One thread, CPU time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from bench_conv import LAYERS, ConvLayer, K
from buffers import normal
from fedfast.kernels import Plan, conv, conv_backward, conv_pool, conv_pool_backward, pool
from fedfast.kernels import pool_backward as back
from marks import THREAD_TIME, beside

pytestmark = THREAD_TIME
POOLED = [name for name in LAYERS if name != "3x3"]


def plans(layer: ConvLayer) -> dict[str, Plan]:
    """Both passes, apart and in one operation."""
    x = normal(K, layer.batch, layer.channels, layer.side, layer.side)
    weight = 0.1 * normal(K, layer.outputs, layer.channels, layer.kernel, layer.kernel)
    bias = normal(K, layer.outputs)
    how: dict[str, Any] = dict(padding=layer.padding, activation="relu")
    planes = conv(x, weight, bias, **how)
    out, dplanes = pool(planes, "max", 2), torch.empty_like(planes)
    dout, where = normal(*out.shape), torch.empty(out.shape, dtype=torch.int32)
    tap = torch.empty(out.shape, dtype=torch.uint8)
    dx = torch.empty_like(x) if layer.channels > 3 else None
    sinks = dict(dx=dx, dweight=torch.empty_like(weight), dbias=torch.empty_like(bias))

    def apart() -> None:
        conv(x, weight, bias, out=planes, **how)
        pool(planes, "max", 2, out=out, argmax=where)
        back(dout, "max", 2, dx=dplanes, argmax=where)
        conv_backward(x, weight, planes, dplanes, **sinks, **how)

    def fused() -> None:
        conv_pool(x, weight, bias, kernel=2, out=out, tap=tap, **how)
        conv_pool_backward(x, weight, out, tap, dout, kernel=2, **sinks, **how)

    return {"apart": recorded(apart), "fedfast": recorded(fused)}


def recorded(body: Callable[[], None]) -> Plan:
    """Its plan."""
    with Plan() as plan:
        body()
    return plan


@pytest.mark.parametrize("name", POOLED)
@beside("apart")
def test_conv_pool(name: str, contestant: str, benchmark: Any) -> None:
    plan = plans(LAYERS[name])[contestant]
    benchmark.group = f"conv_pool {name}"
    benchmark.extra_info["flops"] = LAYERS[name].flops * (3 if LAYERS[name].channels > 3 else 2)
    benchmark.pedantic(plan.run, args=(K, 1 << 20), rounds=30, warmup_rounds=1)
