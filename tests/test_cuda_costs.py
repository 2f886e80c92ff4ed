"""When thin factors replace a gradient on CUDA: launches and operations of the model, choices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from federation import federation
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fedfast.programs import bytes_per_client, sam, trace
from fedfast.programs.cuda_costs import PRECISIONS, saved_by_factors, thin_factors, whole_gradient

pytest.importorskip("triton", reason="Triton is not installed on this platform")

from emulated_cuda import Device  # noqa: E402
from test_emulated_rounds import MODELS, counts, emulated, pytestmark  # noqa: E402, F401


def three_layers() -> nn.Module:
    """The first reads the samples, the second does not; the last has no activation."""
    layers = nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)
    return nn.Sequential(*layers)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    monkeypatch.setitem(MODELS, "three layers", (three_layers, lambda: federation([8] * 4)))
    with emulated(monkeypatch, computes=False) as found:
        yield found


@pytest.mark.parametrize("thin", [(8,), (8, 6)], ids=["first", "first and second"])
def test_the_model_counts_the_launches_of_both_forms(
    thin: tuple[int, ...], device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of layers by their inputs; the second alone would leave the others apart, a launch more."""
    made = []
    for kept in ((), thin):
        monkeypatch.setattr(sam, "is_thin", lambda b, i, *_, samples, kept=kept: i in kept)
        device.graphs.clear()
        made.append(counts(device, "fedsam", "three layers").kernels)
    sizes = [(4, 8, 6, True), (4, 6, 5, False)][: len(thin)]
    forms = [(thin_factors(*s).launches, whole_gradient(*s).launches) for s in sizes]
    assert made[1] - made[0] == sum(factors - whole for factors, whole in forms)


@pytest.mark.parametrize("samples", [True, False])
def test_operations_of_the_model_are_those_of_the_products(samples: bool) -> None:
    """Multiplications and additions of `a @ b`, counted by torch's own rule for each product."""
    batch, inputs, outputs = 7, 11, 5

    def product(*sides: int) -> float:
        m, r, n = sides
        with FlopCounterMode(display=False) as counted:
            torch.empty(m, r, device="meta") @ torch.empty(r, n, device="meta")
        return counted.get_total_flops()

    gradient = product(outputs, batch, inputs)
    grams = product(batch, inputs, batch) + product(batch, outputs, batch)
    onto_outputs, onto_inputs = (product(batch, batch, n) for n in (outputs, inputs))
    whole, thin = (f(batch, inputs, outputs, samples) for f in (whole_gradient, thin_factors))
    if samples:  # the second forward product, or what replaces it
        assert whole.operations == gradient + product(batch, inputs, outputs)
        assert thin.operations == grams + onto_outputs
    else:
        assert whole.operations == gradient
        assert thin.operations == 2 * grams + onto_outputs + onto_inputs


def test_the_threshold_of_cuda_is_its_own() -> None:
    def thin(*size: int, samples: bool, precision: str = "tf32x3") -> bool:
        return sam.is_thin(*size, "cuda", precision, samples=samples)

    assert thin(50, 784, 200, samples=True) and thin(50, 3136, 512, samples=False)
    # A weight that takes a microsecond to write is not worth six launches; on the CPU it is.
    assert not thin(10, 200, 200, samples=False) and sam.is_thin(10, 200, 200, samples=False)
    assert not thin(10, 784, 10, samples=True) and sam.is_thin(10, 784, 10, samples=True)
    # Larger weights are in favour of factors, larger batches in favour of the gradient.
    for samples in (True, False):
        for word in PRECISIONS:
            by_weight = [saved_by_factors(32, n, n, samples, word) for n in (128, 512, 2048)]
            by_batch = [saved_by_factors(b, 512, 512, samples, word) for b in (64, 256, 1024)]
            assert by_weight == sorted(by_weight) and by_batch == sorted(by_batch, reverse=True)
    # A second forward product that is saved counts three times under tf32x3, as do the products of
    # a batch with itself that are not.
    assert thin(200, 784, 200, samples=True) and not thin(50, 512, 512, samples=False)
    assert not thin(200, 784, 200, samples=True, precision="tf32")


@pytest.mark.parametrize("precision", [*PRECISIONS])
def test_an_operation_costs_what_the_precision_takes(precision: str) -> None:
    """Ten clients of 784 to 200, B = 200: what differs from TF32 is the operations' time alone."""
    size = 200, 784, 200, True
    rates = {"tf32": 495, "tf32x3": 495 / 3, "bf16": 989, "fp32": 67, "fp64": 67}  # TFLOP/s
    weights, gram = 784 * 200, 200 * 200
    operations = 4 * 200 * weights - 2 * gram * (784 + 200) - 2 * gram * 200
    numbers = 5 * weights - 200 * 984 - 5 * gram - gram - 5 * 200 * 200
    byte = 8 if precision == "fp64" else 4
    expected = 10 * operations / (0.25e12 * rates[precision])
    expected += 10 * byte * numbers / (0.85 * 3.35e12) - 3 * 2.5e-6
    assert saved_by_factors(*size, precision) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (dict(precision="tf32"), False),
        (dict(), False),  # tf32x3
        (dict(precision="fp32"), True),
        (dict(dtype=torch.float64), True),
    ],
    ids=["tf32", "default", "fp32", "float64"],
)
def test_a_run_keeps_what_its_own_precision_is_in_favour_of(
    options: dict[str, Any],
    kept: bool,
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """512 to 512 in batches of 10: worth it where products are slow or numbers large."""

    def wide() -> nn.Module:
        layers = nn.Linear(8, 512), nn.Tanh(), nn.Linear(512, 512), nn.Tanh(), nn.Linear(512, 4)
        return nn.Sequential(*layers).to(options.get("dtype", torch.float32))

    monkeypatch.setitem(MODELS, "512", (wide, lambda: federation([20] * 4)))
    settings = options | dict(batch_size=10)
    made = [counts(device, "fedsam", "512", **settings).kernels]
    for square in (True, False):
        device.graphs.clear()
        monkeypatch.setattr(sam, "is_thin", lambda _, i, o, *__, samples, s=square: s and i == o)
        made.append(counts(device, "fedsam", "512", **settings).kernels)
    own, thin, written = made
    assert thin != written and own == (thin if kept else written)


def test_memory_is_planned_for_the_layers_that_are_thin_there() -> None:
    program, _ = trace(nn.Sequential(nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10)), SAMPLE)
    width, kinds = 10, ("cpu", "cuda")
    thin = {kind: sam.thin_layers(program, width, kind, "tf32x3") for kind in kinds}
    needs = {k: bytes_per_client(program, width, 4, ascends=True, device=k) for k in kinds}
    assert len(thin["cpu"]) == 1 and thin["cuda"] == []
    assert needs["cpu"] > needs["cuda"] == bytes_per_client(program, width, 4)


SAMPLE = torch.zeros(2, 200)
