"""How results of an operation are compared: with the reference in float64, and client by client."""

from __future__ import annotations

from typing import Any

import torch
from operation_calls import Call, make
from operation_inputs import Form
from torch import Tensor

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-13}
# float64 results of float32 operands whose arithmetic is float64 throughout
WIDE = {"stats", "aggregate", "sensitivity"}
# overwritten with what the backend needs
SCRATCH = {"lstm_backward": {"gates", "cells"}, "conv_pool_backward": {"dout"}}
WIGGLE = 2.0**-20


def results(call: Call, backend: str) -> dict[str, Tensor]:
    """What counts of a call."""
    return counted(call.draw.operation.name, call.guarded_run(backend))


def counted(operation: str, found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: v for n, v in found.items() if n not in SCRATCH.get(operation, set())}


def of_clients(operation: str, call: Call, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is said of each client alone, `[K, ...]`."""
    if operation == "gram":
        return {"squares": found["returned"].diagonal(dim1=-2, dim2=-1).movedim(-1, 0)}
    if operation == "layer_reach":
        return {"scales": found["returned"].T}
    if operation == "aggregate":
        return {"squares": found["returned"][:-1]}
    return found


def norms(value: Tensor) -> Tensor:
    """Of each client's part, [K], or of the only one."""
    return value.double().nan_to_num(0.0).flatten(1 if value.ndim > 1 else 0).norm(dim=-1)


def expected(
    operation: str, form: Form, clients: int, dtype: torch.dtype, **layout: Any
) -> dict[str, Any]:
    """(result, what rounding is relative to) by the reference in float64.

    An error is compared with the result and with what small relative changes of all operands do.
    """
    wide: dict[str, Any] = dict(dtype=torch.float64, rounding=dtype, **layout)
    exact = results(make(operation, form, clients, **wide), "reference")
    sizes = {name: norms(value) for name, value in exact.items()}
    for change in (WIGGLE, WIGGLE / 2):
        moved = results(make(operation, form, clients, wiggle=change, **wide), "reference")
        for name, value in moved.items():
            size = norms(exact[name]) + norms(value - exact[name]) / change
            sizes[name] = torch.maximum(sizes[name], size)
    return {name: (value, sizes[name]) for name, value in exact.items()}


def errors(
    operation: str,
    form: Form,
    clients: int,
    call: Call,
    dtype: torch.dtype,
    backend: str,
    **layout: Any,
) -> dict[str, tuple[float, float]]:
    """(largest error of a client, what is permitted) of every result of `call`, made of that form.

    An error is relative to what rounding is relative to, see `expected`; NaN elsewhere than in the
    reference's result is an infinite one.
    """
    found, errors = results(call, backend), {}
    for name, (value, size) in expected(operation, form, clients, dtype, **layout).items():
        own = found[name].to(value.device)
        kind = own.dtype if operation in WIDE else dtype
        error = norms(own.double() - value) / (size + 1e-300)
        alike = torch.equal(own.isnan(), value.isnan())
        errors[name] = float(error.max()) if alike else float("inf"), TOLERANCE[kind]
    return errors
