"""`Ensemble`: K models of one architecture, trained side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..algorithms import Optimizer
from ..constants import cast
from ..losses import Loss
from ..metrics.accuracy import Metric
from ..torch_settings import usual_modes
from . import state as states
from .adam import Adam
from .batches import as_tensor, first_shared
from .live import Live
from .members import Model, members, seeds_of
from .options import Options
from .rates import PerModel, Rates
from .stateful import Stateful


class Scores(NamedTuple):
    """accuracy, loss  [K] float64: of each model, over all samples"""

    accuracy: Tensor
    loss: Tensor


class Ensemble(Stateful):
    """K models of one architecture that train at once: deep ensembles, seeds, grids of rates.

    model         a function that makes one (`lambda: Net()`, `Net`), called K times, each under
                  `torch.manual_seed` of its own seed; or a list of K modules, whose weights are
                  kept; or a module, copied K times: `reset_parameters` of its submodules draws
                  anew, in the order of `modules()`, under those seeds. All are copied
    K             how many
    optimizer     "sgd", "sam", "asam", "adam", "adamw", or an object: `SGD(momentum=0.9)`,
                  `SAM(rho=0.05)`, `fedfast.ensemble.Adam(betas=(0.9, 0.99))`; torch's formulas
    lr            learning rate, a number or one for each model [K]
    weight_decay  as torch.optim's, a number or [K]
    rho           SAM's radius, a number or [K]; None takes the optimizer's
    loss          "cross_entropy", a callable (outputs, targets) -> mean, or "package.module:Name"
    metric        what `evaluate` counts, see `fedfast.metrics`
    seed          model k begins under seed + k; or a list of K seeds
    dtype         of the weights: torch.float32 or torch.float64
    device, backend, precision, verify   as of `Simulation`

    Equal to K loops over `torch.optim` on the same batches, up to rounding. Dropout draws from
    (seed, step, model), not from torch's global generator. Everything that depends on what a sample
    is (the layer program, see `generic_because`) is made at the first batch.
    Raises TypeError/ValueError naming the argument.
    """

    @usual_modes()
    def __init__(
        self,
        model: Model,
        K: int,  # noqa: N803 - the letter of shapes
        *,
        optimizer: Optimizer | Adam | str = "sgd",
        lr: PerModel = 0.1,
        weight_decay: PerModel = 0.0,
        rho: PerModel | None = None,
        loss: str | Loss = "cross_entropy",
        metric: str | Metric = "auto",
        seed: int | Sequence[int] = 0,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "auto",
        backend: str = "auto",
        precision: str = "auto",
        verify: bool = True,
    ) -> None:
        how = device, backend, precision, verify
        self._options = given = Options.of(K, optimizer, loss, metric, dtype, *how)
        seeds = seeds_of(seed, K)
        self._seed, self.steps = seeds[0], 0
        made = members(model, K, seeds)
        self._modules = [cast(module, given.device, given.dtype) for module in made]
        radius = getattr(given.optimizer, "rho", 0.0) if rho is None else rho
        self._rates = Rates(K, lr, weight_decay, radius)
        self._live = None
        self._kept = {}

    @property
    def generic_because(self) -> str:
        """Why steps go through autograd model by model, "" where a layer program takes them.

        Known from the first step on.
        """
        training = None if self._live is None else self._live.training
        return "" if training is None else training.reason

    @usual_modes()
    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """One optimizer step of every model.

        x, y  a batch for each model, [K, B, ...] and [K, B], or one for all, [B, ...] and [B]
        Returns the mean losses [K] at the models before the step, in the weights' dtype.
        Raises TypeError/ValueError naming x or y; no model has changed then.
        """
        x, y = as_tensor("x", x), as_tensor("y", y)
        live = self._at(x, y)
        losses = live.step(x, y, self.steps)
        self._keep(live)
        self.steps += 1
        return losses

    @usual_modes()
    def logits(self, x: Tensor) -> Tensor:
        """Outputs [K, n, ...] of all models in evaluation mode, on x [n, ...] or [K, n, ...]."""
        x = as_tensor("x", x)
        live = self._at(x)
        outputs = live.outputs(x)
        self._keep(live)
        return outputs

    @usual_modes()
    def predict(self, x: Tensor) -> Tensor:
        """The ensemble's prediction: the mean over models [n, ...].

        Under the cross-entropy of class probabilities, under other losses of outputs.
        """
        outputs = self.logits(x)
        if self._options.loss == "cross_entropy":
            outputs = outputs.softmax(dim=2)
        return outputs.mean(dim=0)

    @usual_modes()
    def evaluate(self, x: Tensor, y: Tensor) -> Scores:
        """Accuracy and mean loss of each model on samples as `step` takes them."""
        x, y = as_tensor("x", x), as_tensor("y", y)
        live = self._at(x, y)
        accuracies, losses = live.evaluate(x, y)
        self._keep(live)
        return Scores(*(torch.tensor(v, dtype=torch.float64) for v in (accuracies, losses)))

    def views(self) -> dict[str, Tensor]:
        """The weights by name, [K, *shape], without a copy: what is written there is trained on.

        Raises RuntimeError before the first batch.
        """
        if self._live is None:
            raise RuntimeError("views: an ensemble lays its weights out at its first batch")
        return self._live.layout.views(self._live.rows)

    def _at(self, x: Tensor, y: Tensor | None = None) -> Live:
        """What is made of the first batch, the first time."""
        if self._live is not None:
            return self._live
        shared = y is None or first_shared(x, y, len(self))
        sample = x if shared else x[0]
        if x.ndim == 0 or len(sample) == 0:
            raise ValueError(f"x: expected at least one sample; got {list(x.shape)}")
        live = Live(self._modules, sample, self._options, self._rates, self._seed)
        states.write_kept(live.layout, live.trainer.kept, self._kept)
        return live

    def _keep(self, live: Live) -> None:
        """From the first call on that went well: a batch that does not fit says nothing."""
        if self._live is None:
            self._live, self._modules = live, self._modules[:1]
