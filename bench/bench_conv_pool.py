"""`conv_pool` beside `conv` and `pool`: milliseconds of a client, forward and backward.

    python -m pytest -q bench/bench_conv_pool.py -s    # one row per layer in results/conv_pool.csv

The layers are those of `bench_conv.py` that have pooling behind them, run as a local step runs
them: recorded in plans, client by client, dx where a layer is not the first. Both take turns on one
thread, in CPU time.
"""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import Any

import pytest
import torch
from alternate import Action, alternate
from bench_conv import LAYERS, ConvLayer, K
from fedfast.kernels import Plan, conv, conv_backward, conv_pool, conv_pool_backward, pool
from fedfast.kernels import pool_backward as back
from result_files import append, stamp

TURNS = 30
POOLED = [name for name in LAYERS if name != "3x3"]


def plans(layer: ConvLayer) -> dict[str, Plan]:
    """Both passes, apart and in one operation."""
    x = torch.randn(K, layer.batch, layer.channels, layer.side, layer.side)
    weight = 0.1 * torch.randn(K, layer.outputs, layer.channels, layer.kernel, layer.kernel)
    bias = torch.randn(K, layer.outputs)
    how: dict[str, Any] = dict(padding=layer.padding, activation="relu")
    planes = conv(x, weight, bias, **how)
    out, dplanes = pool(planes, "max", 2), torch.empty_like(planes)
    dout, where = torch.randn_like(out), torch.empty(out.shape, dtype=torch.int32)
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

    return {"apart": recorded(apart), "fused": recorded(fused)}


def recorded(body: Action) -> Plan:
    """Its plan."""
    with Plan() as plan:
        body()
    return plan


@pytest.mark.parametrize("name", POOLED)
def test_conv_pool(name: str) -> None:
    """One row."""
    torch.set_num_threads(1)
    runs = {how: partial(plan.run, K, 1 << 20) for how, plan in plans(LAYERS[name]).items()}
    spent = alternate(runs, TURNS)
    apart, fused = (1e3 * median(seconds) / K for seconds in spent.values())
    least = min(spent["fused"]) / min(spent["apart"])
    print(f"\n{name}: {apart:.2f} -> {fused:.2f} ms, {fused / apart:.3f} (least {least:.3f})")
    record(name, apart, fused, least)


def record(layer: str, apart: float, fused: float, least: float) -> None:
    """Add a row to conv_pool.csv."""
    figures = {
        "clients": K,
        "layer": layer,
        "apart_ms": round(apart, 3),
        "fused_ms": round(fused, 3),
        "ratio": round(fused / apart, 3),
        "ratio_of_least": round(least, 3),
    }
    append("conv_pool", stamp(1) | figures)
