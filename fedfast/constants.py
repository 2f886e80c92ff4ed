"""Which of a module's tensors a training step changes without a gradient, and a watch on the rest.

Running statistics differ from client to client and are averaged; constants (masks, tables, frozen
weights) belong to the module. What a module does decides, not what its buffers are called.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

Held = tuple[dict[str, Tensor | None], str]  # a module's dictionary, and the key in it


def cast(module: nn.Module, device: torch.device, dtype: torch.dtype | None) -> nn.Module:
    """The module itself on a device, its floats of `dtype`; None leaves them.

    `module.to(dtype)` would cast complex buffers too, and drop their imaginary parts.
    """
    module = module.to(device)
    if dtype is None:
        return module
    return module._apply(lambda t: t.to(dtype) if t.is_floating_point() else t)


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Copies of all buffers and frozen parameters, by name."""
    return {name: t.detach().clone() for name, t in _still(module).items()}


def changed(module: nn.Module, before: dict[str, Tensor]) -> frozenset[str]:
    """Names of the buffers and frozen parameters that differ from `before`, and running statistics.

    The statistics of BatchNorm and InstanceNorm count whether or not this pass came by them.
    Raises ValueError for a buffer that changed its shape or dtype: clients' values would not add.
    """
    after = _still(module)
    for name, was in before.items():
        now = after.get(name)
        if now is None or now.shape != was.shape or now.dtype != was.dtype:
            found = "nothing" if now is None else f"{now.dtype} {list(now.shape)}"
            raise ValueError(
                f"model: buffer {name} changes its shape or dtype in training (from {was.dtype} "
                f"{list(was.shape)} to {found}), so that clients' values cannot be averaged; "
                "run one batch through the model in training mode first"
            )
    moved = {name for name, was in before.items() if not _same(was, after[name])}
    return frozenset(moved | (_statistics(module) & before.keys()))


class Constants:
    """The tensors of a replica that no step may change.

    carried  names of the tensors that come from a client's row
    A change shows in torch's version counter, and by value where that moved; what is written
    through `.data` leaves no trace there and is found by the trial step alone.
    """

    def __init__(self, module: nn.Module, carried: frozenset[str]) -> None:
        self._watched = [
            _Watched(name, *_place(module, name), t, t._version, t.detach().clone())
            for name, t in _still(module).items()
            if name not in carried
        ]

    def check(self) -> None:
        """Raises ValueError naming a constant that the last steps changed."""
        for w in self._watched:
            now = w.holder[w.key]
            if now is w.tensor and w.tensor._version == w.version:
                continue
            if now is None or now.shape != w.value.shape or not _same(w.value, now):
                raise ValueError(
                    f"model: {w.name} changed in a training step, but not in the trial step before "
                    "round 1, so that it was taken for a constant; change a running statistic in "
                    "every training step, and a constant in none"
                )
            w.tensor, w.version = now, now._version


@dataclass
class _Watched:
    name: str
    holder: dict[str, Tensor | None]
    key: str
    tensor: Tensor
    version: int
    value: Tensor


def _still(module: nn.Module) -> dict[str, Tensor]:
    frozen = {name: p for name, p in module.named_parameters() if not p.requires_grad}
    return frozen | dict(module.named_buffers())


def _statistics(module: nn.Module) -> set[str]:
    """Names of the float statistics of every norm that keeps some, and moves them in training."""
    names = set()
    for lead, m in module.named_modules():
        if isinstance(m, nn.modules.batchnorm._NormBase) and m.track_running_stats and m.training:
            names |= {f"{lead}.{key}".lstrip(".") for key in ("running_mean", "running_var")}
    return names


def _place(module: nn.Module, name: str) -> Held:
    lead, _, key = name.rpartition(".")
    owner = module.get_submodule(lead)
    return (owner._buffers if key in owner._buffers else owner._parameters), key  # type: ignore


def _same(one: Tensor, other: Tensor) -> bool:
    """To the bit: NaN equals NaN."""
    if one is other:
        return True
    a, b = (t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (one, other))
    return a.device == b.device and torch.equal(a, b)
