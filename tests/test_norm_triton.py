"""The Triton voice of the norms, interpreted: the checks of `test_norm` on a few small cases."""

from __future__ import annotations

from typing import Any

import pytest
import test_norm as norms
import torch
from images import same
from torch import Tensor

from fedfast.kernels import (
    batch_norm,
    batch_norm_backward,
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm_backward,
)

pytest.importorskip("triton", reason="Triton is not installed on this platform")
FOLD = norms.FOLDS[1]
VOICE: dict[str, Any] = dict(backend="triton")


@pytest.mark.parametrize(
    ("size", "fold", "dtype"),
    [((), FOLD, torch.float64), ((4, 9), {}, torch.float32), ((10, 10), FOLD, torch.float64)],
)
def test_batch_norm(size: tuple[int, ...], fold: dict, dtype: torch.dtype) -> None:
    norms.test_batch_norm(size, fold, dtype, "triton")


def test_batch_norm_by_running_statistics() -> None:
    norms.test_batch_norm_by_running_statistics(torch.float32, "triton")


def test_batch_norm_without_weights_and_without_samples() -> None:
    norms.test_batch_norm_without_weights_and_without_samples("triton")


@pytest.mark.parametrize(
    ("groups", "size", "fold", "dtype"),
    [
        (1, (4, 5), FOLD, torch.float32),
        (4, (16,), FOLD, torch.float64),
        (3, (), {}, torch.float64),
        (1, (11, 9), {}, torch.float64),
    ],
)
def test_group_norm(groups: int, size: tuple[int, ...], fold: dict, dtype: torch.dtype) -> None:
    norms.test_group_norm(groups, size, fold, dtype, "triton")


@pytest.mark.parametrize(
    ("rows", "shape", "dtype"), [((4,), (33,), torch.float64), ((2, 3), (5, 7), torch.float32)]
)
def test_layer_norm(rows: tuple[int, ...], shape: tuple[int, ...], dtype: torch.dtype) -> None:
    norms.test_layer_norm(rows, shape, FOLD, dtype, "triton")


@pytest.mark.parametrize("kind", ["batch", "group", "layer"])
def test_a_client_alone_equals_the_client_in_company(kind: str) -> None:
    affine = (3,) if kind == "layer" else (4,)
    whole = norms.case(2, (3, 4, 3), affine, torch.float32)
    count = torch.tensor([3, 2])

    def run(which: slice) -> dict[str, Tensor]:
        given = {name: value[which] for name, value in whole.items()}
        found, w = norms.gradients_like(given), given["weight"]
        x, dout, bias = given["x"], given["dout"], given["bias"]
        if kind == "batch":
            out, *saved = batch_norm(x, w, bias, count=count[which], **VOICE)
            batch_norm_backward(x, w, dout, *saved, count=count[which], **found, **VOICE)
        elif kind == "group":
            out, *saved = group_norm(x, 2, w, bias, **VOICE)
            group_norm_backward(x, 2, w, dout, *saved, **found, **VOICE)
        else:
            out, *saved = layer_norm(x, (3,), w, bias, **VOICE)
            layer_norm_backward(x, (3,), w, dout, *saved, **found, **VOICE)
        return {"out": out, "mean": saved[0], "rstd": saved[1], **found}

    company = run(slice(0, 2))
    for k in (0, 1):
        for name, value in run(slice(k, k + 1)).items():
            same(value[0], company[name][k])


def test_weights_may_be_overwritten_by_the_step() -> None:
    """dweight is weight itself: dx is taken from the weights before the step."""
    given = norms.case(2, (3, 4, 5), (4,), torch.float64)
    weight, bias = given["weight"].clone(), given["bias"].clone()
    for backward, leading in ((batch_norm_backward, ()), (group_norm_backward, (2,))):
        forward = batch_norm if not leading else group_norm
        _, *saved = forward(given["x"], *leading, weight, bias, **VOICE)
        plain, own = norms.gradients_like(given), (weight.clone(), bias.clone())
        args = (given["x"], *leading)
        backward(*args, weight, given["dout"], *saved, **plain, **VOICE)
        dx = torch.full_like(given["x"], torch.nan)
        sinks = dict(dx=dx, dweight=own[0], dbias=own[1], alpha=-0.5, beta=0.75)
        backward(*args, own[0], given["dout"], *saved, **sinks, **VOICE)
        same(dx, plain["dx"])
        norms.close(own[0], 0.75 * weight - 0.5 * plain["dweight"])
        norms.close(own[1], 0.75 * bias - 0.5 * plain["dbias"])
