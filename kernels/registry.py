"""The backends: which devices each serves, what it can do, and which one a tensor gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from . import native
from .overlap import check_overlap
from .triton import common


@dataclass(frozen=True)
class Capabilities:
    """What an executor can count on beside the operations themselves.

    plans                operations can be recorded in a `Plan` and run client by client
    squares_in_products  backward products write the squares of their gradients (`squares=`) while
                         these are in registers; elsewhere the squares take a pass of their own
    evaluates            programs of these operations evaluate a model at least as fast as torch
    """

    plans: bool = False
    squares_in_products: bool = False
    evaluates: bool = False


@dataclass(frozen=True)
class Backend:
    """One set of implementations.

    devices  types of device that `backend="auto"` gives to it
    require  raises RuntimeError if it is missing here, ValueError/TypeError for a tensor that it
             cannot serve
    """

    name: str
    devices: tuple[str, ...] = ()
    require: Callable[[Tensor], None] = lambda _: None
    capabilities: Capabilities = Capabilities()


_BACKENDS: dict[str, Backend] = {}


def register(backend: Backend) -> None:
    """Make a backend known by its name; of several for a device "auto" takes the first."""
    _BACKENDS[backend.name] = backend


register(Backend("native", ("cpu",), native.require, Capabilities(plans=True, evaluates=True)))
register(Backend("triton", ("cuda",), common.require, Capabilities(squares_in_products=True)))
register(Backend("reference"))

BACKENDS = ("auto", *_BACKENDS)

Voices = Mapping[str, Callable[..., Any]]


def choose(backend: str, tensor: Tensor) -> str:
    """The backend for `tensor`: "native" on CPU and "triton" on CUDA unless one is named.

    Raises ValueError for an unknown name or a device no backend serves, RuntimeError (with the
    remedy) when the chosen one is not available here; it is never replaced silently.
    """
    if backend == "auto":
        backend = _of_device(tensor.device.type)
    chosen = _BACKENDS.get(backend)
    if chosen is None:
        raise ValueError(
            f"backend: expected one of {', '.join(('auto', *_BACKENDS))}; got {backend!r}"
        )
    chosen.require(tensor)
    return backend


def _of_device(device: str) -> str:
    for backend in _BACKENDS.values():
        if device in backend.devices:
            return backend.name
    served = " and ".join(d for backend in _BACKENDS.values() for d in backend.devices)
    raise ValueError(
        f"backend='auto' serves {served} tensors; this one is on {device!r} "
        "(backend='reference' runs anywhere)"
    )


def capabilities(backend: str, tensor: Tensor) -> Capabilities:
    """What the backend that `choose` names for `tensor` can do; raises as `choose`."""
    return _BACKENDS[choose(backend, tensor)].capabilities


def dispatch(voices: Voices, backend: str, tensor: Tensor, *args: Any) -> Any:
    """Call the voice that `choose` names with normalised arguments, outputs apart from the rest."""
    check_overlap(voices["reference"], args)
    return voices[choose(backend, tensor)](*args)
