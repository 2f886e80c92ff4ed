"""Settings of torch, changed for a while: its threads, the modes that a caller may be in, and
whether CUDA's own libraries (cuBLAS, cuDNN) may round float32 products to TF32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch

Flags = Any  # parts of torch.backends, whose attributes are not typed
ALLOW = ("tf32", "bf16")  # "tf32x3" is as exact as "fp32", which one TF32 product is not


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """torch's thread count for a while; the operations read it too."""
    before = torch.get_num_threads()
    try:
        if before != count:
            torch.set_num_threads(count)
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def usual() -> bool:
    """Whether torch is outside of these modes already."""
    other = torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
    return torch.is_grad_enabled() and not torch.is_inference_mode_enabled() and not other


@contextmanager
def usual_modes() -> Iterator[None]:
    """As outside of `no_grad`, `inference_mode` and `autocast`, wherever the caller is.

    Precision is an option of its own; gradients are taken whatever surrounds a server loop.
    """
    if usual():  # nearly always, and every round
        yield
        return
    changes: list[AbstractContextManager[object]] = []
    if torch.is_inference_mode_enabled():
        changes.append(torch.inference_mode(False))
    if not torch.is_grad_enabled():
        changes.append(torch.enable_grad())
    changes += [
        torch.autocast(kind, enabled=False)
        for kind in ("cpu", "cuda")
        if torch.is_autocast_enabled(kind)
    ]
    with ExitStack() as modes:
        for change in changes:
            modes.enter_context(change)
        yield


@contextmanager
def rounding(precision: str) -> Iterator[None]:
    """Torch's flags as `precision` has them; the user's own come back, also after errors."""
    flags, ways = _flags()
    try:
        for owner, _ in flags:
            owner.allow_tf32 = precision in ALLOW
        yield
    finally:
        for owner, allowed in flags:
            if allowed is not None:
                owner.allow_tf32 = allowed
        for owner, way in ways:
            if owner.fp32_precision != way:
                owner.fp32_precision = way


def _flags() -> tuple[list[tuple[Flags, bool | None]], list[tuple[Flags, str]]]:
    """The old switches, None where the new ones are set otherwise, and the new ones."""
    backends: Flags = torch.backends
    switches: list[Flags] = [backends.cuda.matmul, backends.cudnn]
    ways: list[Flags] = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    return [(owner, _read(owner)) for owner in switches], [(w, w.fp32_precision) for w in ways]


def _read(owner: Flags) -> bool | None:
    try:
        return bool(owner.allow_tf32)
    except RuntimeError:  # torch refuses to answer where the new switches were used
        return None
