"""Runs on an emulated CUDA device under a table of choices: libraries in the place of Triton."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from federation import flat
from fedfast.kernels import choices_file
from fedfast.kernels.choices import Shape, Table
from fedfast.kernels.triton import common
from torch import Tensor, nn

from fedfast import fusion_rules
from fedfast.cli import main
from fedfast.programs import resident

pytest.importorskip("triton", reason="Triton is not installed on this platform")

from choice_tables import inject, shapes_of, table_of  # noqa: E402
from emulated_cuda import Device  # noqa: E402
from test_emulated_rounds import MODELS, counts, emulated, images, simulation  # noqa: E402

pytestmark = pytest.mark.skipif(
    not common.INTERPRETED, reason="kernels run in Triton's interpreter, on a device of its own"
)
WIDTH = 4  # of batches
Pick = Callable[[Shape, str], str]
MIXED = {"forward": "cublas-5", "data": "cublas-1", "weight": "cudnn-5-last"}
QUICKSTART = str(Path(__file__).parent.parent / "examples" / "quickstart.yaml")


def mixed(shape: Shape, part: str) -> str:
    """Another library for each part of a convolution, cuBLAS for dense layers."""
    return MIXED[part] if shape.taps else "cublas-5"


def alike(shape: Shape, part: str) -> str:
    """cuDNN for convolutions, cuBLAS for dense layers."""
    return "cudnn-5" if shape.taps else "cublas-10"


def ours(shape: Shape, part: str) -> str:
    """Triton, as without a table."""
    return "triton"


def layers(kind: str) -> Iterator[Shape]:
    net, data = MODELS[kind]
    x = data().x[:2]
    return shapes_of(net(), x.float() if x.dtype == torch.uint8 else x, WIDTH)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    with emulated(monkeypatch, computes=False) as found:
        yield found


@pytest.mark.parametrize("name", ["fedavg", "fedsam"])
@pytest.mark.parametrize("kind", ["mlp", "cnn", "residual"])
def test_a_step_is_one_launch_and_a_round_waits_once(
    kind: str, name: str, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a library needs besides is allocated within a capture, in the graph's pool."""
    inject(monkeypatch, table_of(layers(kind), mixed))
    few, many = (counts(device, name, kind, epochs=epochs) for epochs in (1, 3))
    assert (few.graphs, many.graphs) == (2, 6)
    assert many.events == few.events and many.events["wait"] == 1
    products = {"aten.bmm"} | ({"aten.convolution_backward"} if kind != "mlp" else set())
    captured = {name for what, name in device.captured if what == "launch"}
    assert products <= captured


class Pooled(nn.Module):
    """Strides, padding, groups, a convolution without a bias; pooling behind one with ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), groups=2, bias=False)
        self.head = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.max_pool2d(torch.relu(self.a(x)), 2)
        return self.head(torch.tanh(self.b(x)).flatten(1))


def pooled(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return Pooled().to(dtype)


def trained(
    monkeypatch: pytest.MonkeyPatch, pick: Pick, dtype: torch.dtype, algorithm: str, **options: Any
) -> Tensor:
    """The model after rounds of two steps; pick: candidates of the table."""
    with emulated(monkeypatch, computes=True):
        shapes = shapes_of(pooled(), torch.zeros(2, 1, 6, 6), WIDTH)
        precision = "fp64" if dtype == torch.float64 else "tf32x3"
        inject(monkeypatch, table_of(shapes, pick, precision))
        options = dict(dtype=dtype, rounds=2) | options
        sim = simulation(pooled(dtype), images(8), algorithm, **options)
        assert len(set(sim.products.values())) == (1 if pick is ours else 2)
        sim.run(progress=False)
        return flat({name: t.cpu() for name, t in sim.state_dict().items()})


@pytest.mark.parametrize(
    ("dtype", "bar", "pick", "algorithm", "clip"),
    [
        (torch.float64, 1e-12, mixed, "fedsam", None),
        (torch.float64, 1e-12, alike, "fedavg", 0.5),
        (torch.float32, 2e-6, mixed, "fedavg", 0.5),
    ],
)
def test_a_run_is_tritons_but_for_rounding(
    dtype: torch.dtype,
    bar: float,
    pick: Pick,
    algorithm: str,
    clip: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SAM's two passes; a clip, whose dense gradients wait."""
    options = dict(clip_norm=clip, rounds=1)
    found, triton = (
        trained(monkeypatch, each, dtype, algorithm, **options) for each in (pick, ours)
    )
    assert not torch.equal(found, triton)
    assert float((found - triton).abs().max()) < bar * float(triton.abs().max())


def test_bits_depend_neither_on_chunks_nor_on_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, single = (
        trained(monkeypatch, mixed, torch.float32, "fedavg", chunk=chunk) for chunk in (3, 1)
    )
    assert torch.equal(whole, single)
    monkeypatch.setattr(fusion_rules, "eager_because", lambda *_: "for the test")
    assert torch.equal(whole, trained(monkeypatch, mixed, torch.float32, "fedavg"))


def test_the_table_is_asked_when_the_program_is_made(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each layer, not by steps."""
    asked: list[Shape] = []
    choice = Table.choice

    def watched(self: Table, machine: Any, precision: str, shape: Shape) -> Any:
        asked.append(shape)
        return choice(self, machine, precision, shape)

    expected = list(layers("cnn"))
    inject(monkeypatch, table_of(layers("cnn"), alike))
    monkeypatch.setattr(Table, "choice", watched)
    net, data = MODELS["cnn"]
    simulation(net(), data(), "fedavg").run(progress=False)
    assert asked == expected


@pytest.mark.parametrize("backend", ["triton", "reference"])
def test_a_backend_that_is_named_is_the_one_that_runs(
    backend: str, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(monkeypatch, table_of(layers("cnn"), alike))
    net, data = MODELS["cnn"]
    sim = simulation(net(), data(), "fedavg", backend=backend)
    every = {"forward triton, data triton, weight triton"}
    assert set(sim.products.values()) == (every if backend == "triton" else set())


def test_rows_hold_for_the_workspace_they_were_tried_with(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(monkeypatch, table_of(layers("cnn"), alike))
    net, data = MODELS["cnn"]
    assert "forward cudnn-5" in str(simulation(net(), data(), "fedavg").products)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    assert "forward cudnn-5" not in str(simulation(net(), data(), "fedavg").products)


def test_other_models_and_widths_are_tritons(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(monkeypatch, table_of(layers("cnn"), alike))
    net, data = MODELS["cnn"]
    wider = simulation(net(), data(), "fedavg", batch_size=WIDTH + 1)
    assert set(wider.products.values()) == {"forward triton, data triton, weight triton"}
    assert simulation(net(), data(), "fedavg", device="cpu").products == {}


def test_the_doctor_prints_the_choice_of_each_layer(
    device: Device, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The quickstart's model and batches."""
    picks = dict(forward="cublas-5", data="triton", weight="cublas-1")
    monkeypatch.setattr(resident, "compiled", lambda: None)
    inject(monkeypatch, table_of(iter([Shape(10, (64,), 64)]), lambda _, part: picks[part]))
    assert main(["doctor", QUICKSTART, "--device", "cuda:0", "--verify", "false"]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("products of")]
    assert said == [
        "products of fc1: forward cublas-5, data triton, weight cublas-1",
        "products of fc2: forward cublas-5, data triton, weight cublas-1",
        "products of fc3: forward triton, data triton, weight triton",
    ]


def test_the_shipped_table_has_no_row_for_an_unknown_device(device: Device) -> None:
    assert all(row.device != "emulated" for row in choices_file.shipped())
