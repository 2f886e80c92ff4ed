"""A module under given weights, as losses see it: the user's own, and those of algorithms."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn
from torch.func import functional_call

from .algorithms.objective import Network
from .layout import FlatLayout
from .losses import Loss
from .random_state import seed_all


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
        buffers = {n: t.clone() for n, t in self.tensors.items() if n not in trained}
        return replace(self, tensors={**trained, **buffers})

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """The run's loss."""
        return self.criterion(logits, y)

    def _run(self, module: nn.Module, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
        if self.seed is not None:
            seed_all(self.seed)
        return functional_call(module, tensors, (x,))


def run_loss(net: Network, x: Tensor, y: Tensor, k: int) -> Tensor:
    """The run's loss on a batch, for every client alike."""
    return net.loss(net(x), y)
