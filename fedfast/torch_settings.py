"""Settings of torch, changed for a while: its threads, the modes that a caller may be in, and
whether CUDA's own libraries (cuBLAS, cuDNN) may round float32 products to TF32 (`rounding`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import torch

from .kernels.library.settings import rounding as rounding


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
