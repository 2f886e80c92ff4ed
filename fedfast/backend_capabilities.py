"""What the executors can count on in a backend beside the operations themselves."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .kernels.registry import choose


@dataclass(frozen=True)
class BackendCapabilities:
    """
    plans                operations can be recorded in a `Plan` and run client by client
    squares_in_products  backward products write the squares of their gradients
    evaluates            programs of these operations evaluate a model at least as fast as torch
    """

    plans: bool = False
    squares_in_products: bool = False
    evaluates: bool = False


def backend_capabilities(backend: str, tensor: Tensor) -> BackendCapabilities:
    """What the backend for `tensor` can do."""
    chosen = choose(backend, tensor)
    native = chosen == "native"
    return BackendCapabilities(native, chosen == "triton", native)
