"""What rounds should take on a GPU, before one has run any: `python bench/gpu_prediction.py`.

A local step of K clients is a graph: seconds = launches * NODE + operations / (PRODUCT * peak) +
bytes / (COPY * bandwidth), as in `fedfast/programs/cuda_costs.py`. A round adds the steps, the mean
of K models, and HOST. Launches are counted on the emulated device of the tests, on which kernels
compute nothing; operations and bytes follow from the shapes. Under the default precision a product
is three of TF32 parts; the times of one, under "tf32", stand beside. The four constants are
assumptions that the first run of `gpu.py` can refute. Prints the tables of docs/gpu.md: rounds, and
what SAM saves by leaving gradients of dense layers as factors, under the default precision.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from gpu_sections.factors import BATCHES, LAYERS, PRECISIONS
from torch import nn
from workloads import BY_NAME, Workload

import fedfast
from fedfast import fusion_rules
from fedfast.programs import evaluator
from fedfast.programs.cuda_costs import COPY, H100, H200, Device, Work, saved_by_factors

sys.path.append(str(Path(__file__).parents[1] / "tests"))

HOST = 0.5e-3  # seconds of a round that no step hides: the mean, the wait, the next round's start
SIZES = (("W1", 10), ("W1", 100), ("W2", 10), ("W3", 100), ("W4", 5), ("W5", 2))
# Reads and writes of the weights in a step: forward, gradient of the input, step (two). SAM has
# both passes, writes and reads a gradient, and writes and reads the model it ascends to.
PASSES = {"fedavg": 4, "fedsam": 11}
TOUCHES = 5  # reads and writes of an activation in both passes
DEVICES = (H100, H200)


def launches(work: Workload, algorithm: str) -> int:
    """Nodes in the graph of a step of full batches, whose size decides what SAM keeps."""
    from emulated_cuda import Device as Emulated
    from emulated_graphs import Graphs

    small = replace(work, clients=2, samples=2 * work.batch, cohort=2)
    device = Emulated(False)
    before = fusion_rules.CudaRecorder, evaluator.CudaRecorder
    fusion_rules.CudaRecorder = evaluator.CudaRecorder = lambda: Graphs(device)
    try:
        with device.on():
            sim = fedfast.Simulation(
                small.module(), small.data(), algorithm, batch_size=work.batch, local_epochs=2,
                rounds=2, device="cuda:0", backend="triton", verify=False,
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


def step(work: Workload, algorithm: str) -> Work:
    """Of a full batch."""
    passes = 2 if algorithm == "fedsam" else 1
    one = replace(work, cohort=1, samples=work.batch)
    touched = PASSES[algorithm] * parameters(work) + passes * TOUCHES * work.batch * activations(
        work
    )
    return Work(launches(work, algorithm), passes * one.flops(), 4.0 * touched)


def rounds(work: Workload, algorithm: str, device: Device, own: Work) -> float:
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
        for precision in PRECISIONS:
            done = own.under(precision)
            cells += [f"{1e6 * done.seconds(work.cohort, device):,.0f}"]
            cells += [f"{1e3 * rounds(work, algorithm, device, done):,.1f}"]
    return cells


def main() -> None:
    """Print both tables."""
    print("\n".join([*table(), "", *saved()]))


def table() -> Iterator[str]:
    """Lines of rounds."""
    heads = ["", "launches a step", "GFLOP a step", "MB a step"]
    for device in DEVICES:
        for where in (device.name, f"{device.name}, TF32"):
            heads += [f"{where}: us a step", f"{where}: ms a round"]
    yield f"| {' | '.join(heads)} |"
    yield "|" + "---|" * len(heads)
    for name, cohort in SIZES:
        for algorithm in PASSES:
            cells = row(replace(BY_NAME[name], cohort=cohort), algorithm)
            yield f"| {' | '.join(cells)} |"


def saved() -> Iterator[str]:
    """Lines of what thin factors save, in microseconds."""
    yield f"|  | {' | '.join(f'B = {b}' for b in BATCHES)} |"
    yield "|" + "---|" * (1 + len(BATCHES))
    for layer in LAYERS:
        cells = [f"{1e6 * saved_by_factors(b, *layer, PRECISIONS[0]):.1f}" for b in BATCHES]
        yield f"| {' | '.join([layer.name, *cells])} |"


if __name__ == "__main__":
    main()
