"""The only place that asks which device a tensor is on, and therefore which voice speaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from . import native
from .overlap import check_overlap
from .triton import common

BACKENDS = ("auto", "native", "triton", "reference")

Voices = Mapping[str, Callable[..., Any]]


def choose(backend: str, tensor: Tensor) -> str:
    """The voice for `tensor`: "native" on CPU and "triton" on CUDA unless one is named.

    Raises ValueError for an unknown name or a device no voice serves, RuntimeError (with the
    remedy) when the chosen voice is not available here; a missing voice is never replaced silently.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(BACKENDS)}; got {backend!r}")
    device = tensor.device.type
    if backend == "auto":
        if device not in ("cpu", "cuda"):
            raise ValueError(
                f"backend='auto' serves cpu and cuda tensors; this one is on {device!r} "
                "(backend='reference' runs anywhere)"
            )
        backend = "native" if device == "cpu" else "triton"
    if backend == "native":
        native.require(tensor)
    elif backend == "triton":
        common.require(tensor)
    return backend


def dispatch(voices: Voices, backend: str, tensor: Tensor, *args: Any) -> Any:
    """Call the voice that `choose` names with normalised arguments, outputs apart from the rest."""
    check_overlap(voices["reference"], args)
    return voices[choose(backend, tensor)](*args)
