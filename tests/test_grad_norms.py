"""Squared norms that come with the gradients: the sums, and what runs make of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from federation import federation, flat
from fedfast.kernels import (
    conv,
    conv_backward,
    conv_pool,
    conv_pool_backward,
    linear,
    linear_backward,
    step,
)
from layer_cases import block, poison
from torch import Tensor, nn

import fedfast
from fedfast import kernels
from fedfast.algorithms import FedProx, FedSAM

every_backend = pytest.mark.parametrize("backend", ["reference", "native", "triton"])
K = 2


def expected(*written: Tensor | None) -> Tensor:
    """In float64, by torch."""
    rows = [t.double().flatten(1) for t in written if t is not None]
    return torch.cat(rows, dim=1).square().sum(1)


def sums() -> Tensor:
    """Where a layer writes its squares: a column among others."""
    return torch.full((K, 3), torch.nan, dtype=torch.float64)[:, 1]


def dense(backend: str, bias: bool, **fold: Any) -> tuple[Tensor, ...]:
    x, weight, b = block(1, K, 5, 33), block(2, K, 70, 33), block(3, K, 70)
    out = linear(x, weight, b, activation="tanh", backend=backend)
    to, sinks = sums(), (poison(K, 70, 33), poison(K, 70) if bias else None)
    more = dict(dweight=sinks[0], dbias=sinks[1], squares=to, backend=backend) | fold
    linear_backward(x, weight, out, block(4, K, 5, 70), activation="tanh", **more)
    return to, *sinks


def image(backend: str, bias: bool, pooled: bool, outputs: int = 6) -> tuple[Tensor, ...]:
    x, weight = block(1, K, 2, 4, 7, 6), block(2, K, outputs, 2, 3, 3)
    b, options = block(3, K, outputs), dict(padding=1, groups=2, activation="relu", backend=backend)
    to, sinks = sums(), (poison(*weight.shape), poison(*b.shape) if bias else None)
    more: dict[str, Any] = dict(dweight=sinks[0], dbias=sinks[1], squares=to, **options)
    if pooled:
        tap = torch.empty(K, 2, outputs, 3, 3, dtype=torch.uint8)
        out = conv_pool(x, weight, b, kernel=2, tap=tap, **options)
        conv_pool_backward(x, weight, out, tap, block(4, *out.shape), kernel=2, **more)
    else:
        out = conv(x, weight, b, **options)
        conv_backward(x, weight, out, block(4, *out.shape), **more)
    return to, *sinks


@every_backend
@pytest.mark.parametrize("bias", [True, False])
def test_squares_are_those_of_what_is_written(bias: bool, backend: str) -> None:
    for to, *written in (
        dense(backend, bias, alpha=-0.5, beta=0.0),
        image(backend, bias, pooled=not bias, outputs=6 if bias else 20),
    ):
        torch.testing.assert_close(to, expected(*written), rtol=1e-12, atol=0)


def test_nothing_is_noted_without_a_gradient_and_never_in_a_plan() -> None:
    x, weight = block(1, K, 5, 3), block(2, K, 4, 3)
    dout, to = block(3, K, 5, 4), sums()
    with pytest.raises(ValueError, match="squares: expected None without dweight"):
        linear_backward(x, weight, dout, dout, squares=to)
    with pytest.raises(TypeError, match="squares: expected a float64 tensor"):
        linear_backward(x, weight, dout, dout, dweight=weight, squares=to.float())
    with pytest.raises(ValueError, match=r"squares: expected shape \[2\]"):
        linear_backward(x, weight, dout, dout, dweight=weight, squares=to[:1])
    with pytest.raises(TypeError, match="cannot be part of a plan"), kernels.Plan():
        linear_backward(x, weight, dout, dout, dweight=weight, squares=to)


@every_backend
def test_a_clip_by_known_squares_is_the_clip(backend: str) -> None:
    w, g, m = (block(seed, 3, 200) for seed in (1, 2, 3))
    norms = g.double().norm(dim=1)
    clip = torch.stack([norms[0] / 2, norms[1] * 2, norms[2] / 3]).float()
    squares = torch.stack([p.double().square().sum(1) for p in g.split(70, dim=1)], dim=1)
    ways = dict(clip_norm=clip, weight_decay=0.1, momentum=0.9, backend=backend)
    found = step(w, g, 0.3, out=poison(3, 200), m=m.clone(), squares=squares, **ways)
    d = g.double() * (clip.double() / (norms + 1e-6)).clamp(max=1)[:, None]
    v = 0.9 * m.double() + d + 0.1 * w.double()
    torch.testing.assert_close(found.double(), w.double() - 0.3 * v, rtol=1e-5, atol=1e-6)
    lied = step(w, g, 0.3, out=poison(3, 200), m=m.clone(), squares=4 * squares, **ways)
    assert not torch.equal(lied, found), "the squares are not read"


def model() -> nn.Module:
    """A pooled convolution, a norm whose parameters take a pass, a dense layer."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(2),
        nn.Flatten(),
        nn.Linear(8, 4),
    )


ALGORITHMS = {
    "both": (FedSAM(rho=0.1), 0.05),
    "proximal": (FedProx(mu=0.1), 0.05),  # descends along more than the gradient
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_run_by_recorded_squares_is_the_references_run(monkeypatch: Any, name: str) -> None:
    algorithm, clip = ALGORITHMS[name]
    data, read = federation([2, 1], shape=(1, 4, 4)), []
    stats = kernels.stats

    def watched(x: Tensor, **options: Any) -> Tensor:
        if "out" in options and len(x) == K:  # the engine's own reports: no out, or one row
            read.append(options["segments"])
        return stats(x, **options)

    monkeypatch.setattr(kernels, "stats", watched)

    def trained(backend: str, chunk: int | None = None) -> Tensor:
        sim = fedfast.Simulation(
            model(), data, algorithm, rounds=1, participation=1.0, batch_size=2, clip_norm=clip,
            dtype=torch.float64, backend=backend, chunk=chunk,
        )  # fmt: skip
        read.clear()
        sim.run(progress=False)
        return flat(sim.state_dict())

    reference, found = trained("reference"), trained("triton")
    lengths = {int(n) for segments in read for n in segments.length}
    assert lengths <= {32 + 2}, "more than the norm's parameters were read again"
    assert bool(lengths) == (name != "proximal")
    assert (found - reference).abs().max() <= 1e-12
    if name == "both":
        assert torch.equal(trained("triton", chunk=1), found)
