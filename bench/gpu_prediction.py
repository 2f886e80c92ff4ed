"""What rounds should take on a GPU, before one has run any: `python bench/gpu_prediction.py`.

A local step of K clients is a graph: seconds = launches * NODE + operations / (PRODUCT * peak) +
bytes / (COPY * bandwidth). A round adds the steps, the mean of K models, and HOST. Launches are
counted on the emulated device of the tests, on which kernels compute nothing; operations and bytes
follow from the shapes. The four constants are assumptions, written here so that the first run of
`gpu.py` can refute them. Prints the table of docs/gpu.md.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from workloads import BY_NAME, Workload

import fedfast
from fedfast import fusion_rules
from fedfast.programs import evaluator

sys.path.append(str(Path(__file__).parents[1] / "tests"))

NODE = 2.5e-6  # seconds from one small kernel of a graph to the next
PRODUCT = 0.25  # of the data sheet's rate, in tiles of at most 64 x 128
COPY = 0.85  # of the data sheet's bandwidth
HOST = 0.5e-3  # seconds of a round that no step hides: the mean, two waits, the next round's start
SIZES = (("W1", 10), ("W1", 100), ("W2", 10), ("W3", 100), ("W4", 5), ("W5", 2))
# Reads and writes of the weights in a step: forward, gradient of the input, step (two). SAM has
# both passes, writes and reads a gradient, and writes and reads the model it ascends to.
PASSES = {"fedavg": 4, "fedsam": 11}
TOUCHES = 5  # reads and writes of an activation in both passes


class Device(NamedTuple):
    """Data sheets: dense TF32 operations and bytes per second."""

    name: str
    products: float
    memory: float


DEVICES = (Device("H100", 495e12, 3.35e12), Device("H200", 495e12, 4.8e12))


@dataclass(frozen=True)
class Step:
    """What a local step of one client does."""

    launches: int  # of all clients together
    operations: float
    bytes: float

    def seconds(self, clients: int, device: Device) -> float:
        """Of `clients` of them."""
        products = clients * self.operations / (PRODUCT * device.products)
        return self.launches * NODE + products + clients * self.bytes / (COPY * device.memory)


def launches(work: Workload, algorithm: str) -> int:
    """Nodes in the graph of a step."""
    from emulated_cuda import Device as Emulated
    from emulated_graphs import Graphs

    small = replace(work, clients=2, samples=4, cohort=2, batch=2)
    device = Emulated(False)
    before = fusion_rules.CudaRecorder, evaluator.CudaRecorder
    fusion_rules.CudaRecorder = evaluator.CudaRecorder = lambda: Graphs(device)
    try:
        with device.on():
            sim = fedfast.Simulation(
                small.module(), small.data(), algorithm, batch_size=2, local_epochs=2, rounds=2,
                device="cuda:0", precision="tf32", verify=False,
            )  # fmt: skip
            sim.run(progress=False)
    finally:
        fusion_rules.CudaRecorder, evaluator.CudaRecorder = before
    return max(device.graphs)


def activations(work: Workload) -> int:
    """Elements of all layers' results for one sample."""
    found: list[int] = []
    model = work.module()
    for layer in model.modules():
        if not list(layer.children()) and not isinstance(layer, nn.Flatten):
            layer.register_forward_hook(lambda _, __, out: found.append(out[0].numel()))
    with torch.no_grad():
        model(torch.zeros(1, *work.shape))
    return sum(found)


def parameters(work: Workload) -> int:
    """Of the model."""
    return sum(p.numel() for p in work.module().parameters())


def step(work: Workload, algorithm: str) -> Step:
    """Of a full batch."""
    passes = 2 if algorithm == "fedsam" else 1
    one = replace(work, cohort=1, samples=work.batch)
    touched = PASSES[algorithm] * parameters(work) + passes * TOUCHES * work.batch * activations(
        work
    )
    return Step(launches(work, algorithm), passes * one.flops(), 4.0 * touched)


def rounds(work: Workload, algorithm: str, device: Device, own: Step) -> float:
    """Seconds."""
    steps = -(-work.samples // work.batch)
    mean = 4.0 * work.cohort * parameters(work) / (COPY * device.memory)
    return steps * own.seconds(work.cohort, device) + mean + HOST


def row(work: Workload, algorithm: str) -> Sequence[str]:
    """Of the table."""
    own = step(work, algorithm)
    cells = [f"{work.name}, {algorithm}, K = {work.cohort}", str(own.launches)]
    cells += [f"{work.cohort * own.operations / 1e9:,.1f}", f"{work.cohort * own.bytes / 1e6:,.0f}"]
    for device in DEVICES:
        cells += [f"{1e6 * own.seconds(work.cohort, device):,.0f}"]
        cells += [f"{1e3 * rounds(work, algorithm, device, own):,.1f}"]
    return cells


def main() -> None:
    heads = ["", "launches a step", "GFLOP a step", "MB a step"]
    for device in DEVICES:
        heads += [f"{device.name}: us a step", f"{device.name}: ms a round"]
    print("|", " | ".join(heads), "|")
    print("|" + "---|" * len(heads))
    for name, cohort in SIZES:
        for algorithm in PASSES:
            print("|", " | ".join(row(replace(BY_NAME[name], cohort=cohort), algorithm)), "|")


if __name__ == "__main__":
    main()
