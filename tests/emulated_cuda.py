"""A CUDA device that is not there: tensors on it count what a round asks of a real one.

`Device` is a mode in which torch takes `device="cuda"`: a tensor there is a `DeviceTensor`, whose
memory is the CPU's. What a run does with such tensors is an event: a launch (ours, or an operation
of torch's), an allocation, a copy between host and device, a wait of the host for the device. Ours
are computed by Triton's interpreter, or (`computes=False`) by nobody: then memory holds zeros.

`Graphs` is a recorder like CUDA's. What it captures it repeats on the same addresses, without any
code of the step's; it refuses what a capture refuses, and memory that went away since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol
from unittest import mock

import torch
from fedfast.kernels.triton import common
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
START = common.start
aten = torch.ops.aten
# What makes the host wait: a number is read, or a size depends on values.
WAITS = {
    aten._local_scalar_dense,
    aten.nonzero,
    aten.masked_select,
    aten.equal,
    aten.is_nonzero,
    aten._unique2,
    aten.bincount,
}
MASKED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
BARE = {aten.empty, aten.new_empty, aten.empty_like, aten.empty_strided, aten.new_empty_strided}
BARE |= {aten.detach, aten.alias, aten.lift_fresh, aten.record_stream, aten.set_, aten.resize_}


class DeviceTensor(Tensor):
    """A tensor on the device. held: its memory."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> DeviceTensor:
        made = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="meta",  # of torch's own: no library of the device is asked for
        )
        made.held = held
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The emulated one."""
        return CUDA

    @property
    def is_meta(self) -> bool:  # type: ignore[override]
        """False."""
        return False

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        """True."""
        return True

    def data_ptr(self) -> int:
        """Of its memory."""
        return self.held.data_ptr()

    def tolist(self) -> Any:
        """Copied to the host first."""
        return self.cpu().tolist()

    def new_tensor(self, value: Any, **kwargs: Any) -> Tensor:
        """Made on the host, and copied."""
        return torch.tensor(value, **{"dtype": self.dtype, "device": CUDA, **kwargs})

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """As torch copies tensors and parameters."""
        if id(self) not in memo:
            copied = self.detach().clone()
            if getattr(self, "_is_param", False):
                copied = torch.nn.Parameter(copied, self.requires_grad)
            memo[id(self)] = copied
        found: Tensor = memo[id(self)]
        return found

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"DeviceTensor({list(self.held.shape)}, {self.held.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func}: a tensor of the device outside of `Device`")


def held(value: Any) -> Any:
    """The memory of a tensor, of tensors in tuples and lists; others as they are."""
    return tree_map(lambda t: t.held if isinstance(t, DeviceTensor) else t, value)


class Capture(Protocol):
    """What collects the calls of a step that is captured."""

    def owns(self, t: Tensor) -> None:
        """Memory allocated within."""

    def add(self, function: Callable[..., Any], args: Any, kwargs: Any, out: Any = None) -> None:
        """A call on memory, and what it returned."""


class Device(TorchDispatchMode):
    """See the module.

    computes  whether kernels of ours do what they do
    events    how often each happened: (kind, name); kinds "launch", "allocation", "copy", "wait"
    captured  the same of what was captured, each capture once
    """

    def __init__(self, computes: bool = True) -> None:
        super().__init__()
        self.computes, self.capture = computes, None
        self.events, self.captured = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        self.graphs: list[int] = []  # launches of each that was captured
        self.launched: list[Counter[str]] = []  # the same by name: "aten" begins those of torch's
        self.pinned: set[int] = set()

    capture: Capture | None

    def note(self, kind: str, name: str) -> None:
        """One more event."""
        if kind == "wait" and self.capture is not None:
            raise RuntimeError(f"{name} waits for the device within a capture")
        self.events[kind, name] += 1

    def count(self, kind: str) -> int:
        """Events of a kind."""
        return sum(times for (found, _), times in self.events.items() if found == kind)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves, spec = tree_flatten((args, kwargs))
        tensors = [t for t in leaves if isinstance(t, Tensor)]
        ours = [t for t in tensors if isinstance(t, DeviceTensor)]
        devices = [d for d in leaves if isinstance(d, torch.device)]
        # A number that is assigned to a part of a tensor is made where torch takes that to be.
        number = func.overloadpacket is aten.scalar_tensor
        kinds = ("cuda", "meta") if number else ("cuda",)
        there = devices[0].type in kinds if devices else bool(ours)
        if kwargs.get("pin_memory"):
            return self.pin(func(*args, **{**kwargs, "pin_memory": False}))
        if not ours and not there:
            return func(*args, **kwargs)
        if func.overloadpacket is aten._to_copy and ours and there:
            if kwargs.get("dtype") in (None, args[0].dtype):
                return args[0]  # it is there
        hurries = kwargs.get("non_blocking") or (func.overloadpacket is aten.copy_ and args[2:])
        self._waits(func.overloadpacket, args, tensors, there, bool(hurries))
        cpu = [CPU if isinstance(x, torch.device) else held(x) for x in leaves]
        inner = tree_unflatten(cpu, spec)
        out = self.run(func, *inner)
        return self._result(func, inner, ours, out) if there else out

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What an operation of torch's makes of memory."""
        return func(*args, **kwargs)

    def clear(self, packet: Any, t: Tensor) -> None:
        """Newly allocated: nothing is in memory that nobody has written to."""
        if packet in BARE:
            t.zero_()
        elif not self.computes and t.is_floating_point():
            t.nan_to_num_()  # what marks memory that nobody has written to

    def pin(self, t: Tensor) -> Tensor:
        """Memory that the device copies from while the host goes on."""
        self.pinned.add(t.untyped_storage().data_ptr())
        return t

    def _waits(self, packet: Any, args: Any, tensors: Any, there: bool, hurries: bool) -> None:
        """Note the copies and waits of an operation."""
        indices = [t for t in args[1] if t is not None] if packet in MASKED else []
        if packet in WAITS:
            self.note("wait", str(packet))
        if packet in MASKED and any(t.dtype in (torch.bool, torch.uint8) for t in indices):
            self.note("wait", f"{packet} by a mask")
        hosts = [t for t in tensors if not isinstance(t, DeviceTensor)]
        moves = packet in (aten.copy_, aten._to_copy)
        if not there and packet not in WAITS:
            self._copied("to host", tensors[0], hurries)
        elif packet is aten.copy_ and hosts and hosts[0] is tensors[0]:
            self._copied("to host", hosts[0], hurries)
        elif there and any(t.ndim or moves for t in hosts):
            self._copied("to device", hosts[0], hurries)

    def _copied(self, way: str, host: Tensor, hurries: bool) -> None:
        self.note("copy", way)
        if host.untyped_storage().data_ptr() not in self.pinned or not hurries:
            self.note("wait", f"copy {way}")

    def _result(self, func: Any, inner: Any, ours: list[DeviceTensor], out: Any) -> Any:
        """What came out, on the device; the allocations and the launch that made it."""
        packet = func.overloadpacket
        same = {id(t.held): t for t in ours}
        known = {t.held.untyped_storage().data_ptr() for t in ours}
        made = [t for t in tree_flatten(out)[0] if isinstance(t, Tensor) and t.numel()]
        new = [t for t in made if t.untyped_storage().data_ptr() not in known]
        for t in new:
            self.note("allocation", str(packet))
            self.clear(packet, t)
            if self.capture is not None:
                self.capture.owns(t)
        written = any(id(t) in same for t in made)
        if (new or written) and packet not in BARE:
            self.note("launch", str(packet))
            if self.capture is not None:
                self.capture.add(func, *inner, out)
        return tree_map(lambda t: self._there(t, same), out)

    def _there(self, t: Any, same: dict[int, DeviceTensor]) -> Any:
        if not isinstance(t, Tensor):
            return t
        return same[id(t)] if id(t) in same else DeviceTensor(t)

    def start(self, kernel: Any, programs: int, tensor: Tensor, args: Any, meta: Any) -> None:
        """In the place of `common.start`."""
        for t in tree_flatten(args)[0]:
            assert not isinstance(t, Tensor) or isinstance(t, DeviceTensor), (kernel, t)
        self.note("launch", kernel.fn.__name__)
        run, inner = partial(START, kernel, programs), held((tensor, args))
        if self.computes:
            with _disable_current_modes():
                run(*inner, meta)
        if self.capture is not None:
            self.capture.add(run, (*inner, meta), {})

    @contextmanager
    def on(self) -> Iterator[Device]:
        """Within, there is a CUDA device, and this is it."""
        with (
            mock.patch.multiple(
                torch.cuda,
                _lazy_init=lambda: None,
                is_available=lambda: True,
                current_device=lambda: 0,
                mem_get_info=lambda *_: (1 << 36, 1 << 36),
                empty_cache=lambda: None,
                get_device_name=lambda *_: "emulated",
            ),
            mock.patch.object(torch.backends.cudnn, "is_acceptable", lambda _: False),
            mock.patch.multiple(
                torch, tensor=_copied_there(torch.tensor), as_tensor=_copied_there(torch.as_tensor)
            ),
            mock.patch.object(common, "start", self.start),
            mock.patch.object(Tensor, "pin_memory", lambda t: self.pin(t.clone())),
            self,
        ):
            yield self


def _copied_there(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`torch.tensor`, which makes what it is given on the host and copies it to where it is due."""

    def made(value: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        if isinstance(value, Tensor):
            return value.to(device, kwargs.get("dtype"))
        found = make(value, *args, **kwargs)
        return found if device is None else found.to(device)

    return made
