"""Forward-over-reverse through a layer program: tangents of values, then of their gradients.

    y = f(x, w):          Ry = f_x Rx + f_w Rw                     Rw = v, given
    dx = f_x^T dy:        R dx = f_x^T R dy + (R f_x)^T dy         R dw likewise: H v

R is the derivative along v (Pearlmutter 1994). A `FirstPass` has values and gradients at w, which
stay; a `TangentPass` has their tangents in a workspace of its own. Layers that are linear in their
input are their own tangents; products and activations have rules of their own, others formulas
(`tangent_formulas.py`). Which layer has which: `tangent_rules.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .context import BatchContext
from .records import Sink


@dataclass
class FirstPass(BatchContext):
    """Forward and backward at w; parameters' gradients are not formed."""

    def sink(self, name: str) -> Sink | None:
        return None


@dataclass
class TangentPass(BatchContext):
    """Tangents along v, which takes the place of w; H v goes to g.

    first  the pass at w
    """

    first: FirstPass | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        # Not the workspace's views, which last: v and g are other memory in every product.
        layout = self.workspace.layout
        self._v, self._out = (layout.views(rows, trained_only=True) for rows in (self.w, self.g))

    @property
    def at(self) -> FirstPass:
        """The pass at w."""
        assert self.first is not None
        return self.first

    def saved(self, key: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """What layers saved at w."""
        return self.at.saved(key, shape, dtype)

    def scratch(self, like: Tensor, *sides: int) -> Tensor:
        """A buffer of this shape, or of these last sides, until the record is done."""
        shape = *like.shape[: like.ndim - len(sides)], *sides
        return self.workspace.saved(f"scratch {shape[1:]}", shape, like.dtype)

    def moves(self, name: str | None) -> bool:
        """Whether v has a part for this parameter."""
        return name in self.workspace.program.parameters

    def _held(self, name: str) -> str:
        return self.workspace.layout.aliases.get(name, name)

    def parameter(self, name: str) -> Tensor:
        """The tangent of a trained parameter."""
        return self._v[self._held(name)]

    def sink(self, name: str) -> Sink | None:
        """Where the parameter's part of H v goes; a tied one's second layer adds to the first."""
        if not self.moves(name):
            return None
        held = self._held(name)
        out, again = self._out[held], held in self.written
        self.written.add(held)
        return Sink(out, 1.0, 1.0, out) if again else Sink(out)


class Rule(NamedTuple):
    """How a record's tangents are formed."""

    forward: Callable[..., None]  # (record of the layer, TangentPass)
    backward: Callable[..., None]
