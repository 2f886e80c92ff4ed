"""A CUDA device for a campaign: clock, events, graphs, properties and profiler of one that is not
there, on which nothing is computed (`sized_cuda.py`).

Every launch takes `LAUNCH` seconds of the device. Functions of `torch.cuda` are called with torch's
own signatures, properties are those that torch declares; whatever is not here raises, as it does in
a torch without CUDA.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from sized_cuda import Sized
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from fedfast.design import Design

LAUNCH = 1e-5
HELD = 1 << 20  # bytes that are allocated, at any time
DECLARED = Path(torch.__file__).parent / "_C" / "__init__.pyi"


class Captured:
    """What is captured: how many launches."""

    def __init__(self) -> None:
        self.launches = 0

    def owns(self, t: Tensor) -> None:
        """Allocated within."""

    def add(self, *_: Any) -> None:
        """A call."""
        self.launches += 1


class CampaignDevice(Sized):
    """See the module. seconds: what all launches took."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def note(self, kind: str, name: str) -> None:
        """One more event."""
        super().note(kind, name)
        if kind == "launch" and self.capture is None:
            self.seconds += LAUNCH

    def _result(self, func: Any, inner: Any, ours: Any, out: Any) -> Any:
        """What came out; torch's operations on lists, which return nothing, launch as well."""
        if out is None:
            self.note("launch", str(func.overloadpacket))
            if self.capture is not None:
                self.capture.add(func)
        return super()._result(func, inner, ours, out)

    def start(self, kernel: Any, programs: int, tensor: Tensor, args: Any, meta: Any) -> None:
        """In the place of `common.start`; what is launched is not kept."""
        self.note("launch", kernel.fn.__name__)
        if self.capture is not None:
            self.capture.add(kernel, args, meta)

    def event(self) -> type:
        """A class in the place of `torch.cuda.Event`."""
        device = self

        class Event:
            def __init__(self, enable_timing: bool = False) -> None:
                self.timed, self.at = enable_timing, -1.0

            def record(self, stream: Any = None) -> None:
                self.at = device.seconds

            def synchronize(self) -> None:
                assert self.at >= 0

            def elapsed_time(self, end_event: Event) -> float:
                assert self.timed and end_event.timed and 0 <= self.at <= end_event.at
                return 1e3 * (end_event.at - self.at)

        return Event

    def graph_class(self) -> type:
        """A class in the place of `torch.cuda.CUDAGraph`."""
        device = self

        class Graph:
            launches = -1

            def replay(self) -> None:
                assert self.launches >= 0, "nothing was captured"
                device.note("launch", "graph")
                device.seconds += LAUNCH * (self.launches - 1)

        return Graph

    @contextmanager
    def graph(self, cuda_graph: Any, **_: Any) -> Iterator[None]:
        """In the place of `torch.cuda.graph`."""
        assert self.capture is None
        self.capture = captured = Captured()
        try:
            yield
        finally:
            self.capture = None
        cuda_graph.launches = captured.launches


def properties() -> SimpleNamespace:
    """Of a device: those that torch declares, no others."""
    (own,) = re.findall(r"class _CudaDeviceProperties:\n((?: {4}.*\n)+)", DECLARED.read_text())
    return SimpleNamespace(**dict.fromkeys(re.findall(r"^ {4}(\w+):", own, re.MULTILINE), 9))


def like(real: Callable[..., Any], fake: Callable[..., Any]) -> Callable[..., Any]:
    """`fake`, called as `real` may be called."""
    declared = signature(real)

    @wraps(fake)
    def called(*args: Any, **kwargs: Any) -> Any:
        declared.bind(*args, **kwargs)
        return fake(*args, **kwargs)

    return called


def profiled(activities: list[ProfilerActivity]) -> profile:
    """Torch's profiler, of the host's operations: those of the device are named alike."""
    assert activities == [ProfilerActivity.CUDA]
    return profile(activities=[ProfilerActivity.CPU])


@contextmanager
def campaign_device(device: CampaignDevice | None = None) -> Iterator[CampaignDevice]:
    """Within, there is such a device, and torch.cuda's functions ask it."""
    device, cuda = device or CampaignDevice(), torch.cuda
    asked = dict(
        synchronize=lambda *_: None,
        get_device_name=lambda *_: "emulated",
        get_device_properties=lambda *_: properties(),
        get_device_capability=lambda *_: (9, 0),
        max_memory_allocated=lambda *_: HELD,
        memory_allocated=lambda *_: HELD,
        reset_peak_memory_stats=lambda *_: None,
        graph_pool_handle=lambda: (0, 1),
    )
    fakes: dict[str, Any] = {n: like(getattr(cuda, n), fake) for n, fake in asked.items()}
    fakes |= dict(Event=device.event(), CUDAGraph=device.graph_class())
    fakes["graph"] = like(cuda.graph, device.graph)
    # Nothing is computed that could agree with autograd.
    unverified = mock.patch.object(Design, "_verify", lambda _: None)
    with device.on(), mock.patch.multiple(cuda, **fakes), unverified:
        yield device
