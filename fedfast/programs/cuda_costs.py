"""What parts of a step take on a CUDA device, as a model, and what it says of thin factors.

A step of K clients is a graph of kernels:

    seconds = launches * NODE + K * (operations / (PRODUCT * products) + bytes / (COPY * memory))

`products`, `memory`: operations and bytes per second of a data sheet; an operation of another
precision than TF32 counts as so many of TF32's, bytes by the size of a number (`Work.under`).
NODE, PRODUCT and COPY are assumptions; `bench/gpu.py` measures what they stand for, and both forms
of layers on both sides of the threshold. A choice must not depend on K, since clients' bits do not:
it is the one for CLIENTS clients, by an H100's figures and the run's precision, for any K on any
device. Fewer clients would have launches weigh more, more of them less.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

NODE = 2.5e-6  # seconds from one small kernel of a graph to the next
PRODUCT = 0.25  # of the data sheet's rate, in tiles of at most 64 x 128
COPY = 0.85  # of the data sheet's bandwidth
CLIENTS = 10  # that share a launch


class Numbers(NamedTuple):
    """Of a precision: what an operation costs in operations of TF32, and bytes of a number."""

    operations: float
    size: int


# By the words of `kernels/choices.py: precision_of`. `tf32x3` multiplies three times; the others by
# their rates in an H100's data sheet, in TFLOP/s: 989 dense bfloat16, 67 float32, 67 float64.
PRECISIONS = {
    "tf32": Numbers(1, 4),
    "tf32x3": Numbers(3, 4),
    "bf16": Numbers(495 / 989, 4),
    "fp32": Numbers(495 / 67, 4),
    "fp64": Numbers(495 / 67, 8),
}
FLOAT = PRECISIONS["tf32"].size


class Device(NamedTuple):
    """Data sheets: dense TF32 operations and bytes per second."""

    name: str
    products: float
    memory: float


H100, H200 = Device("H100", 495e12, 3.35e12), Device("H200", 495e12, 4.8e12)


@dataclass(frozen=True)
class Work:
    """What a step, or a part of it, does for one client, in operations of TF32."""

    launches: int  # of all clients together
    operations: float
    bytes: float

    def under(self, precision: str) -> Work:
        """The same in the numbers of a precision, a key of `PRECISIONS`."""
        numbers = PRECISIONS[precision]
        operations = numbers.operations * self.operations
        return replace(self, operations=operations, bytes=self.bytes * numbers.size / FLOAT)

    def seconds(self, clients: int, device: Device) -> float:
        """Of `clients` of them."""
        products = clients * self.operations / (PRODUCT * device.products)
        return self.launches * NODE + products + clients * self.bytes / (COPY * device.memory)


def whole_gradient(batch: int, inputs: int, outputs: int, samples: bool) -> Work:
    """SAM's two passes of a dense layer whose gradient is written, beside what both forms do.

    The product of the gradient and the sum of its squares; the gradient written and read, the
    weights read and written once more for `w + s g`. A layer that reads the samples also has its
    second forward product: its input is that of the first.
    """
    weights = inputs * outputs
    again = int(samples)
    operations = (1 + again) * 2.0 * batch * weights
    return Work(2 + again, operations, FLOAT * (4.0 + again) * weights)


def thin_factors(batch: int, inputs: int, outputs: int, samples: bool) -> Work:
    """The same of a layer whose gradient is left as factors, beside what both forms do.

    `ghost` (4 launches); `lowrank` in the second forward pass and in its backward pass (2 each), or
    once with the Gram matrix known (1) and the activation in a launch of its own.
    """
    gram, sides = batch * batch, inputs + outputs
    norm = Work(4, 2.0 * gram * sides, FLOAT * (batch * sides + 5.0 * gram))
    if samples:
        operations, numbers = 2.0 * gram * outputs, gram + 5.0 * batch * outputs
        launches = 2
    else:
        operations, numbers = 4.0 * gram * sides, 4.0 * gram + 5.0 * batch * sides
        launches = 4
    return Work(
        norm.launches + launches, norm.operations + operations, norm.bytes + FLOAT * numbers
    )


def saved_by_factors(batch: int, inputs: int, outputs: int, samples: bool, precision: str) -> float:
    """Seconds of a step of CLIENTS clients on an H100 that thin factors save; below 0: cost.

    precision  of the run's products, a key of `PRECISIONS`
    """
    size = batch, inputs, outputs, samples
    forms = whole_gradient(*size), thin_factors(*size)
    whole, thin = (form.under(precision).seconds(CLIENTS, H100) for form in forms)
    return whole - thin
