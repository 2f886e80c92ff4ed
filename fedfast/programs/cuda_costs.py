"""What parts of a step take on a CUDA device, as a model, and what it says of thin factors.

A step of K clients is a graph of kernels:

    seconds = launches * NODE + K * (operations / (PRODUCT * products) + bytes / (COPY * memory))

`products`, `memory`: operations and bytes per second of a data sheet. NODE, PRODUCT and COPY are
assumptions; `bench/gpu.py` measures what they stand for, and both forms of layers on both sides of
the threshold. A choice must not depend on K, since clients' bits do not: it is the one for CLIENTS
clients, by an H100's figures, for any K on any device. Fewer clients would have launches weigh
more, more of them less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

NODE = 2.5e-6  # seconds from one small kernel of a graph to the next
PRODUCT = 0.25  # of the data sheet's rate, in tiles of at most 64 x 128
COPY = 0.85  # of the data sheet's bandwidth
CLIENTS = 10  # that share a launch
FLOAT = 4  # bytes


class Device(NamedTuple):
    """Data sheets: dense TF32 operations and bytes per second."""

    name: str
    products: float
    memory: float


H100, H200 = Device("H100", 495e12, 3.35e12), Device("H200", 495e12, 4.8e12)


@dataclass(frozen=True)
class Work:
    """What a step, or a part of it, does for one client."""

    launches: int  # of all clients together
    operations: float
    bytes: float

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


def saved_by_factors(batch: int, inputs: int, outputs: int, samples: bool) -> float:
    """Seconds of a step of CLIENTS clients on an H100 that thin factors save; below 0: cost."""
    size = batch, inputs, outputs, samples
    forms = whole_gradient(*size), thin_factors(*size)
    whole, thin = (form.seconds(CLIENTS, H100) for form in forms)
    return whole - thin
