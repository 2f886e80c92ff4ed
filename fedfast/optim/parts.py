"""Parameters of an optimizer as the flat rows that fused operations work on.

Small tensors are packed: copied into one row, for a call costs more than the copy. A large one is a
row of its own and is not copied. The ascent writes to memory of its own and parameters point there
until they are put back, so that w is neither copied nor computed back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD

from ..kernels import Column, Segments, perturb, stats, step

EPS = 1e-12  # joins the norm, as in the class that projects copy
LARGE = 1 << 15  # elements
EXACT = (torch.float32, torch.float64)
Group = dict[str, Any]  # a param_group: torch's options beside ours
State = dict[Tensor, Group]  # what the base optimizer keeps


class Part:
    """Parameters of one group on one device: one large one, or small ones.

    w, g    [S], the parameters before the ascent and their first gradient
    ahead   [S], `w + e`; moved: what the parameters are there
    keeps   whether g must outlive the parameters' own gradients
    What is neither float32 nor float64 is computed in float32.
    """

    def __init__(
        self, group: Group, flags: Sequence[bool], parameters: list[Tensor], keeps: bool
    ) -> None:
        self.group, self.parameters, self.keeps = group, parameters, keeps
        self.before = [p.data for p in parameters]
        like = parameters[0]
        self.large, self.exact = is_large(like), like.dtype in EXACT
        self.sizes = [p.numel() for p in parameters]
        dtype = like.dtype if self.exact else torch.float32
        self.ahead = torch.empty(sum(self.sizes), dtype=dtype, device=like.device)
        self.w = self.before[0].view(-1) if self.large else torch.empty_like(self.ahead)
        self.g = self.ahead if self.large else torch.empty_like(self.ahead)
        self.saved, self.first = self._views(self.w), self._views(self.g)
        self.there = self._views(self.ahead)
        self.moved = [
            view if view.stride() == p.stride() and self.exact else torch.empty_like(p)
            for view, p in zip(self.there, parameters, strict=True)
        ]
        self.apart = [(a, b) for a, b in zip(self.moved, self.there, strict=True) if a is not b]
        self.backend = "auto" if like.device.type in ("cpu", "cuda") else "reference"
        starts = torch.tensor([0, *self.sizes[:-1]]).cumsum(0).tolist()
        self.segments = None if all(flags) else Segments.of(starts, self.sizes, flags, like.device)
        self.m: Tensor | None = None

    def _views(self, row: Tensor) -> list[Tensor]:
        parts = row.split(self.sizes)
        return [part.view(p.shape) for part, p in zip(parts, self.parameters, strict=True)]

    def gather(self) -> None:
        """Take in parameters and gradients."""
        if self.large:
            self._take_gradients()
            self.g = self.g.clone() if self.keeps else self.g
            self.first = self._views(self.g)
        else:
            torch._foreach_copy_(self.saved, self.before)
            self._take_gradients()

    def _take_gradients(self) -> None:
        grads = [p.grad for p in self.parameters if p.grad is not None]
        if self.large:
            self.g = grads[0].reshape(-1)
        else:
            torch._foreach_copy_(self.first, grads)

    def square(self, eta: float | None) -> Tensor:
        """|t g|^2, float64 []: what this part adds to the square of the norm."""
        g = self.g
        if eta is not None:
            t = self.w.abs().add_(eta)
            if self.segments is not None:
                spans = zip(self.segments.spans, self.segments.flags, strict=True)
                for (start, stop), flag in spans:
                    t[start:stop] = t[start:stop] if flag else 1.0
            g = t.mul_(g)
        return stats(g, backend=self.backend)[0, 0, Column.XX]

    def ascend(self, rho: float, eta: float | None, alpha: float, norm: Tensor | None) -> None:
        """Parameters become `w + (rho / (|t g| + eps) - alpha) t^2 g`; norm: |t g| if known."""
        perturb(
            self.w[None],
            self.g,
            rho,
            out=self.ahead[None],
            segments=None if eta is None else self.segments,
            eps=EPS,
            alpha=alpha,
            adaptive=eta,
            norm=None if norm is None else norm.to(self.w).view(1),
            backend=self.backend,
        )
        for to, view in self.apart:
            to.copy_(view)
        for p, to in zip(self.parameters, self.moved, strict=True):
            p.data = to

    def restore(self) -> None:
        """Parameters are their own memory again."""
        for p, data in zip(self.parameters, self.before, strict=True):
            p.data = data

    def descend(self, state: State) -> None:
        """The step of torch's SGD, one pass; momentum is kept in `state` as SGD does."""
        group = self.group
        self._take_gradients()
        step(
            self.w[None],
            self.g,
            group["lr"],
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            nesterov=group["nesterov"],
            m=self._momentum(state) if group["momentum"] else None,
        )
        if not self.large:
            torch._foreach_copy_(self.before, self.saved)

    def _momentum(self, state: State) -> Tensor:
        """[1, S], of which the parameters' buffers in `state` are views."""
        if self.m is None:
            self.m = torch.zeros_like(self.w)
            self.buffers = self._views(self.m)
        for p, buffer in zip(self.parameters, self.buffers, strict=True):
            held = state[p].get("momentum_buffer")
            if held is not buffer:
                buffer.zero_() if held is None else buffer.copy_(held)
                state[p]["momentum_buffer"] = buffer
        return self.m[None]


def is_large(p: Tensor) -> bool:
    """Whether it is a row as it is, and worth a call."""
    return p.numel() >= LARGE and p.dtype in EXACT and p.is_contiguous()


def is_plain_sgd(optimizer: object, parts: Sequence[Part]) -> bool:
    """Whether `Part.descend` is the optimizer's step for them."""
    return (
        type(optimizer) is SGD
        and not optimizer._optimizer_step_pre_hooks
        and not optimizer._optimizer_step_post_hooks
        and all(part.exact and part.backend == "auto" and _is_plain(part.group) for part in parts)
        and all(p.grad is not None for part in parts for p in part.parameters)
    )


def _is_plain(group: Group) -> bool:
    special = group["dampening"] or group["maximize"] or group["differentiable"]
    return not special and not isinstance(group["lr"], Tensor)
