"""Tensors that hooks may read and not write: checked by version counters, and by content where a
user's code runs, because torch does not see writes of compiled operations and of numpy."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .algorithms import Algorithm

WORDS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # bytes of a number -> a word as wide


class ReadOnly:
    """Tensors [..., width] under their names in hooks; `check` finds writes to them.

    content  whether to read them too: a pass over each, here and in `check`
    """

    def __init__(self, tensors: Mapping[str, Tensor], content: bool) -> None:
        self.tensors, self.content = dict(tensors), content
        self.marks = {name: self._mark(t) for name, t in self.tensors.items()}

    def _mark(self, t: Tensor) -> tuple[int, int]:
        bits = 0
        if self.content:
            word = WORDS.get(t.element_size())
            bits = int((t.view(word) if word and t.is_floating_point() else t).sum())
        return t._version, bits

    def check(self, algorithm: Algorithm, hooks: str, remedy: str) -> None:
        """Raise ValueError naming what was written to since."""
        for name, t in self.tensors.items():
            if self._mark(t) != self.marks[name]:
                raise ValueError(
                    f"{name}: expected to be read only in {hooks} of "
                    f"{class_names(algorithm)}; got a write. {remedy}"
                )


def class_names(algorithm: Algorithm) -> str:
    """The classes whose code a user may have to inspect."""
    return " / ".join(type(part).__name__ for part in (algorithm, *algorithm.components))
