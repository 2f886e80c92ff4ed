"""Rounds of real size on a device without memory: what they launch, with how many programs.

`Sized` is the emulated device whose large tensors have sizes, strides and addresses, but nobody
reads or writes them: a round of a hundred clients takes about as long as one of two.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from emulated_cuda import WAITS, Device, held
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

import fedfast
from fedfast import fusion_rules
from fedfast.data import FederatedData
from fedfast.programs import evaluator

LARGE = 1 << 18  # bytes from which on memory is left alone
META = torch.device("meta")
PHASES = {"fedfast.programs.evaluator": "evaluation", "fedfast.client_loop": "step"}


@dataclass(frozen=True)
class Seen:
    """A launch: by which operation, in a "step", the "evaluation", or the "round" around them.

    shape  of the tensor that the launch belongs to, without the clients
    bytes  of all tensors that it is given, each once; what is read of banks that it picks from, and
           of what neighbouring programs share, is less
    """

    phase: str
    operation: str
    kernel: Any
    programs: int
    shape: tuple[int, ...]
    bytes: int
    tensor: Tensor
    arguments: tuple[Any, ...]
    meta: dict[str, Any]

    @property
    def name(self) -> str:
        """Of the kernel."""
        found: str = self.kernel.fn.__name__
        return found


class Sized(Device):
    """See the module. seen: the launches, in order."""

    def __init__(self) -> None:
        super().__init__(computes=False)
        self.seen: list[Seen] = []

    def start(self, kernel: Any, programs: int, tensor: Tensor, args: Any, meta: Any) -> None:
        """In the place of `common.start`."""
        tensors = [t for t in tree_flatten(args)[0] if isinstance(t, Tensor)]
        sizes = {(t.data_ptr(), t.shape, t.stride()): t.nbytes for t in tensors}
        shape, total = tuple(tensor.shape[1:]), sum(sizes.values())
        given = held(tensor), held(args), meta
        self.seen.append(Seen(*_caller(), kernel, programs, shape, total, *given))

    def clear(self, packet: Any, t: Tensor) -> None:
        """Newly allocated."""
        if not _large(t):
            super().clear(packet, t)

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What an operation of torch's makes of memory: of large tensors only shapes."""
        leaves, spec = tree_flatten((args, kwargs))
        tensors = [t for t in leaves if isinstance(t, Tensor)]
        makes = not tensors and "device" in kwargs
        reads = func.is_view or func.overloadpacket in WAITS
        if reads or not (makes or any(map(_large, tensors))):
            return func(*args, **kwargs)
        shapes = [_shape(x) for x in leaves]
        known = {id(s): t for s, t in zip(shapes, leaves, strict=True) if isinstance(s, Tensor)}
        given = tree_unflatten(shapes, spec)
        out = func(*given[0], **given[1])
        if makes and not _large(out):
            return func(*args, **kwargs)
        return tree_map(lambda t: known.get(id(t), _memory(t)), out)

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """A recorder's: the step once, and nothing when it is replayed."""
        step()
        return lambda: None


def _large(t: Tensor) -> bool:
    return t.is_floating_point() and t.nbytes > LARGE


def _shape(x: Any) -> Any:
    """A tensor without memory for a tensor, the device of such for a device."""
    if isinstance(x, Tensor):
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=META)
    return META if isinstance(x, torch.device) else x


def _memory(t: Any) -> Any:
    """Addresses for a tensor that has none: zeros if it is small."""
    if not isinstance(t, Tensor):
        return t
    made = torch.empty_strided(t.shape, t.stride(), dtype=t.dtype)
    return made if _large(made) else made.zero_()


def _caller() -> tuple[str, str]:
    """(phase, operation) of the launch that is under way."""
    frame, operation = sys._getframe(2), ""
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("fedfast.kernels.triton."):
            operation = frame.f_code.co_name
        if module in PHASES:
            return PHASES[module], operation
        frame = frame.f_back
    return "round", operation


@contextmanager
def sized() -> Iterator[Sized]:
    """Within, `device="cuda:0"` is such a device."""
    device = Sized()
    recorders = dict(CudaRecorder=lambda: device)
    with (
        mock.patch.multiple(fusion_rules, **recorders),
        mock.patch.multiple(evaluator, **recorders),
        device.on(),
    ):
        yield device


def launches(
    module: torch.nn.Module, data: FederatedData, algorithm: str, batch: int, **options: Any
) -> list[Seen]:
    """What a round of all clients of `data` launches: an epoch, their mean, an evaluation."""
    with sized() as device:
        settings = dict(chunk=data.num_clients, rounds=1, participation=1.0, local_epochs=1)
        sim = fedfast.Simulation(
            *(module, data, algorithm),
            **(settings | dict(batch_size=batch, device="cuda:0", verify=False) | options),
        )
        sim.run(progress=False)
    return device.seen
