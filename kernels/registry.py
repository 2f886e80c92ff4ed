"""The backends: which devices each serves, what it can do, and which one a tensor gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from importlib import import_module
from importlib.util import find_spec
from inspect import signature

import torch
from torch import Tensor

from . import native
from .declaration import Operation
from .library import settings
from .library.candidates import CANDIDATES, Candidate
from .overlap import check_overlap
from .triton import common

Implementation = Callable[..., object]


@dataclass(frozen=True)
class Capabilities:
    """What an executor can count on beside the operations themselves.

    plans                operations can be recorded in a `Plan` and run client by client
    squares_in_products  backward products write the squares of their gradients (`squares=`) while
                         these are in registers; elsewhere the squares take a pass of their own
    evaluates            programs of these operations evaluate models: no test needs torch's layers
    graphs               operations only launch kernels, which a CUDA graph can repeat
    """

    plans: bool = False
    squares_in_products: bool = False
    evaluates: bool = False
    graphs: bool = False


@dataclass(frozen=True)
class Backend:
    """One set of implementations.

    find     the implementation of an operation; it takes the declared arguments in their order
    devices  types of device that `backend="auto"` gives to it
    require  raises RuntimeError if it is missing here, ValueError/TypeError for a tensor that it
             cannot serve
    """

    name: str
    find: Callable[[Operation], Implementation]
    devices: tuple[str, ...] = ()
    require: Callable[[Tensor], None] = lambda _: None
    capabilities: Capabilities = Capabilities()


def folder(package: str, how: Candidate | None = None) -> Callable[[Operation], Implementation]:
    """Finds implementations in modules of a package, looked up at first use.

    how  what those of `kernels/library/` take first; ValueError where it has no such operation
    Operations of `linear.py` are in a `linear.py` there, or in `linear_backward.py`. Raises
    TypeError where their arguments are not the declared ones.
    """

    def find(operation: Operation) -> Implementation:
        if how is not None and operation.name not in how.operations:
            raise ValueError(f"backend: expected one that has {operation.name}; got {how.name!r}")
        module = f"{package}.{operation.module}"
        if operation.name.endswith("_backward") and find_spec(f"{module}_backward"):
            module += "_backward"
        implementation: Implementation = getattr(import_module(module), operation.name)
        if how is not None:
            implementation = partial(implementation, how)
        names = tuple(signature(implementation).parameters)
        if names != operation.names:
            raise TypeError(f"{module}.{operation.name}: takes {names}, declared {operation.names}")
        return apart(operation, implementation)

    return find


def apart(operation: Operation, implementation: Implementation) -> Implementation:
    """The implementation, called once no memory that it writes is another operand's."""

    @wraps(implementation)
    def checked(*args: object) -> None:
        check_overlap(operation, args)
        implementation(*args)

    return checked


_BACKENDS: dict[str, Backend] = {}
_AUTO: dict[str, str] = {}  # type of device -> backend


def register(backend: Backend) -> None:
    """Make a backend known by its name; of several for a device "auto" takes the first."""
    _BACKENDS[backend.name] = backend
    for device in backend.devices:
        _AUTO.setdefault(device, backend.name)


_HERE = __name__.rpartition(".")[0]
_NATIVE = Capabilities(plans=True, evaluates=True)
_TRITON = Capabilities(squares_in_products=True, evaluates=True, graphs=True)
register(Backend("native", native.called, ("cpu",), native.require, _NATIVE))
register(Backend("triton", folder(f"{_HERE}.triton"), ("cuda",), common.require, _TRITON))
register(Backend("reference", folder(f"{_HERE}.reference")))

BACKENDS = ("auto", *_BACKENDS)  # of runs; the others have some operations only
for _how in CANDIDATES.values():
    _find = folder(f"{_HERE}.library", _how)
    register(Backend(_how.name, _find, (), common.require, _TRITON))


class Implementations(dict[str, Implementation]):
    """An operation's implementations by backend, each found when it is first called."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self._operation = operation

    def __missing__(self, backend: str) -> Implementation:
        self[backend] = found = _BACKENDS[backend].find(self._operation)
        return found


def choose(backend: str, tensor: Tensor) -> str:
    """The backend for `tensor`: "native" on CPU and "triton" on CUDA unless one is named.

    Raises ValueError for an unknown name or a device no backend serves, RuntimeError (with the
    remedy) when the chosen one is not available here; it is never replaced silently.
    """
    if backend == "auto":
        backend = _of_device(tensor.device.type)
    chosen = _BACKENDS.get(backend) if isinstance(backend, str) else None
    if chosen is None:
        raise ValueError(
            f"backend: expected one of {', '.join(('auto', *_whole()))}; got {backend!r}"
        )
    chosen.require(tensor)
    return backend


def _whole() -> list[str]:
    """Names of the backends that have all operations."""
    return [name for name in _BACKENDS if name not in CANDIDATES]


def _of_device(device: str) -> str:
    name = _AUTO.get(device)
    if name is None:
        raise ValueError(
            f"backend='auto' serves {' and '.join(_AUTO)} tensors; this one is on {device!r} "
            "(backend='reference' runs anywhere)"
        )
    return name


def capabilities(backend: str, tensor: Tensor) -> Capabilities:
    """What the backend that `choose` names for `tensor` can do; raises as `choose`."""
    return _BACKENDS[choose(backend, tensor)].capabilities


def machine(device: torch.device) -> tuple[str, str]:
    """(name of a CUDA device, libraries that choose algorithms for it): what results depend on."""
    versions = f"torch {torch.__version__} cudnn {torch.backends.cudnn.version()}"
    return torch.cuda.get_device_name(device), f"{versions} cublas {settings.fix_workspace()}"
