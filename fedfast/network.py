"""A module under given weights, as losses see it: the user's own, and those of algorithms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from .algorithms.objective import Network
from .layout import FlatLayout
from .losses import Loss, weight_of
from .metrics import Metric
from .random_state import seed_all

__all__ = ["Loss", "Part", "ModuleWithWeights", "assess", "run_loss", "total"]

WHOLE = 1 << 28  # numbers of a test set's outputs that may be kept to take the loss of at once


@dataclass(frozen=True)
class ModuleWithWeights:
    """One client's module with its tensors; see `algorithms.objective.Network`.

    criterion  the run's loss
    seed       of the module's random numbers: every forward pass of a step draws the same
    """

    module: nn.Module
    tensors: dict[str, Tensor]
    layout: FlatLayout
    criterion: Loss
    seed: int | None

    def __call__(self, x: Tensor) -> Tensor:
        """Logits."""
        return self._run(self.module, self.tensors, x)

    def part(self, name: str, x: Tensor) -> Tensor:
        """The output of the submodule `name`."""
        lead = f"{name}."
        own = {n.removeprefix(lead): t for n, t in self.tensors.items() if n.startswith(lead)}
        found = self._run(self.module.get_submodule(name), own, x)
        self.tensors.update({lead + n: t for n, t in own.items()})  # buffers may be set anew
        return found

    def holding(self, w: Tensor) -> ModuleWithWeights:
        """The same network with other weights [trained]; its running statistics move apart."""
        trained = self.layout.views(w, trained_only=True)
        carried = {n: t.clone() for n, t in self.tensors.items() if n not in trained}
        return replace(self, tensors={**trained, **carried})

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """The run's loss."""
        return self.criterion(logits, y)

    def _run(self, module: nn.Module, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
        if self.seed is not None:
            seed_all(self.seed)
        return functional_call(module, tensors, (x,))


def run_loss(net: Network, x: Tensor, y: Tensor, k: int) -> Tensor:
    """The run's loss on a batch, whoever the client."""
    return net.loss(net(x), y)


@dataclass(frozen=True)
class Part:
    """A part of a test set, judged.

    loss     its mean loss times `weight`, what that mean was divided by
    correct  how many predictions are right
    outputs  [n, ...] where the loss is taken of the whole set
    """

    loss: float
    weight: float
    correct: float
    outputs: Tensor | None


def assess(loss: Loss, metric: Metric, outputs: Tensor, y: Tensor, samples: int) -> Part:
    """Judge a part of a test set of so many samples."""
    correct = metric(outputs, y).sum().item()
    # Means of parts make the mean of the whole only where all samples weigh alike, which is known
    # of the plain cross-entropy; other losses are taken of all outputs, as far as they fit.
    if loss is not F.cross_entropy and samples * outputs[0].numel() <= WHOLE:
        return Part(0.0, 0.0, correct, outputs.clone())
    weight = weight_of(loss, y)
    return Part(float(loss(outputs, y)) * weight if weight else 0.0, weight, correct, None)


def total(loss: Loss, parts: Sequence[Part], y: Tensor) -> tuple[float, float]:
    """(accuracy, loss) of the whole set of targets y [n, ...], whose parts come in order."""
    accuracy = sum(part.correct for part in parts) / len(y)
    outputs = [part.outputs for part in parts if part.outputs is not None]
    if outputs:
        return accuracy, float(loss(torch.cat(outputs), y))
    weight = sum(part.weight for part in parts)
    return accuracy, sum(part.loss for part in parts) / weight if weight else float("nan")
