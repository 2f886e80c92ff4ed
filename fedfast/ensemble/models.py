"""`Ensemble`: K models of one architecture, trained side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..algorithms import Optimizer
from ..constants import cast
from ..losses import Loss
from ..metrics import Metric
from ..validation.values import integer
from . import state as states
from .batches import as_tensor, first_shared
from .live import Live
from .members import Model, members, seeds_of
from .options import Options
from .rates import PerModel, Rates, per_model
from .trainer import kinds_kept


class Scores(NamedTuple):
    """accuracy, loss  [K] float64: of each model, over all samples"""

    accuracy: Tensor
    loss: Tensor


class Ensemble:
    """K models of one architecture that train at once: deep ensembles, seeds, grids of rates.

    model         a function that makes one (`lambda: Net()`, `Net`), called K times, each under
                  `torch.manual_seed` of its own seed; or a list of K modules, whose weights are
                  kept; or a module, copied K times: `reset_parameters` of its submodules draws
                  anew, in the order of `modules()`, under those seeds. All are copied
    K             how many
    optimizer     "sgd", "sam", "asam", or an object: `SGD(momentum=0.9, nesterov=True)`,
                  `SAM(rho=0.05)`, ...; torch's formulas
    lr            learning rate, a number or one for each model [K]
    weight_decay  as torch.optim.SGD's, a number or [K]
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

    def __init__(
        self,
        model: Model,
        K: int,  # noqa: N803 - the letter of shapes
        *,
        optimizer: Optimizer | str = "sgd",
        lr: PerModel = 0.1,
        weight_decay: PerModel = 0.0,
        rho: PerModel | None = None,
        loss: str | Loss = "cross_entropy",
        metric: str | Metric = "auto",
        seed: int | Sequence[int] = 0,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "auto",
        backend: str = "auto",
        precision: str = "fp32",
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
        self._live: Live | None = None
        self._kept: Mapping[str, Mapping[str, Tensor]] = {}

    def __len__(self) -> int:
        return self._options.count

    @property
    def generic_because(self) -> str:
        """Why steps go through autograd model by model, "" where a layer program takes them.

        Known from the first step on.
        """
        training = None if self._live is None else self._live.training
        return "" if training is None else training.reason

    @property
    def lr(self) -> Tensor:
        """[K] float64, may be set, and changed in place, between steps."""
        return self._rates.lr

    @lr.setter
    def lr(self, value: PerModel) -> None:
        self._rates.lr.copy_(per_model("lr", value, len(self)))

    @property
    def weight_decay(self) -> Tensor:
        """As `lr`."""
        return self._rates.weight_decay

    @weight_decay.setter
    def weight_decay(self, value: PerModel) -> None:
        self._rates.weight_decay.copy_(per_model("weight_decay", value, len(self)))

    @property
    def rho(self) -> Tensor:
        """SAM's radii, as `lr`."""
        return self._rates.rho

    @rho.setter
    def rho(self, value: PerModel) -> None:
        self._rates.rho.copy_(per_model("rho", value, len(self)))

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """One optimizer step of every model.

        x, y  a batch for each model, [K, B, ...] and [K, B], or one for all, [B, ...] and [B]
        Returns the mean losses [K] at the models before the step, in the weights' dtype.
        Raises TypeError/ValueError naming x or y; no model has changed then.
        """
        x, y = as_tensor("x", x), as_tensor("y", y)
        losses = self._at(x, y).step(x, y, self.steps)
        self.steps += 1
        return losses

    def logits(self, x: Tensor) -> Tensor:
        """Outputs [K, n, ...] of all models in evaluation mode, on x [n, ...] or [K, n, ...]."""
        x = as_tensor("x", x)
        return self._at(x).outputs(x)

    def predict(self, x: Tensor) -> Tensor:
        """The ensemble's prediction: the mean over models [n, ...].

        Under the cross-entropy of class probabilities, under other losses of outputs.
        """
        outputs = self.logits(x)
        if self._options.loss == "cross_entropy":
            outputs = outputs.softmax(dim=2)
        return outputs.mean(dim=0)

    def evaluate(self, x: Tensor, y: Tensor) -> Scores:
        """Accuracy and mean loss of each model on samples as `step` takes them."""
        x, y = as_tensor("x", x), as_tensor("y", y)
        accuracies, losses = self._at(x, y).evaluate(x, y)
        return Scores(*(torch.tensor(v, dtype=torch.float64) for v in (accuracies, losses)))

    def state_dict(self, k: int | None = None) -> dict[str, object]:
        """Of model k, as its module's `load_state_dict` takes it; of the whole ensemble for None.

        The whole one holds the optimizer's state, rates and the number of steps as well: training
        goes on from it to the bit. `torch.save` writes both. Copies.
        """
        if k is not None:
            return dict(self._module_state(self._index(k)))
        live = self._live
        kept = self._kept if live is None else states.by_name(live.layout, live.trainer.kept)
        rates = states.rates_state(self._rates)
        return dict(models=self.state_dicts(), optimizer=kept, rates=rates, steps=self.steps)

    def state_dicts(self) -> list[dict[str, Tensor]]:
        """Those of all models."""
        return [self._module_state(k) for k in range(len(self))]

    def load_state_dict(self, state: Mapping[str, object], k: int | None = None) -> None:
        """Set model k to a state dict of its module, or the whole ensemble to what it gave.

        What the optimizer keeps of a model stays when its weights alone are set.
        Raises TypeError/ValueError naming `state`; nothing has changed then.
        """
        if k is not None:
            self._write({self._index(k): state})
            return
        whole = states.check_whole(state, len(self), kinds_kept(self._options.optimizer))
        self._write(dict(enumerate(whole["models"])))
        for name, value in whole["rates"].items():
            setattr(self, name, value)
        self.steps, self._kept = whole["steps"], whole["optimizer"]
        if self._live is not None:
            states.write_kept(self._live.layout, self._live.trainer.kept, self._kept)

    def views(self) -> dict[str, Tensor]:
        """The weights by name, [K, *shape], without a copy: what is written there is trained on.

        Raises RuntimeError before the first batch.
        """
        if self._live is None:
            raise RuntimeError("views: an ensemble lays its weights out at its first batch")
        return self._live.layout.views(self._live.rows)

    def _at(self, x: Tensor, y: Tensor | None = None) -> Live:
        """What is made of the first batch, the first time."""
        if self._live is None:
            shared = y is None or first_shared(x, y, len(self))
            sample = x if shared else x[0]
            if x.ndim == 0 or len(sample) == 0:
                raise ValueError(f"x: expected at least one sample; got {list(x.shape)}")
            live = Live(self._modules, sample, self._options, self._rates, self._seed)
            states.write_kept(live.layout, live.trainer.kept, self._kept)
            self._live, self._modules = live, self._modules[:1]
        return self._live

    def _index(self, k: int) -> int:
        integer("k", k)
        if not 0 <= k < len(self):
            raise ValueError(f"k: expected a model from 0 to {len(self) - 1}; got {k}")
        return int(k)

    def _module_state(self, k: int) -> dict[str, Tensor]:
        if self._live is None:
            return {n: t.clone() for n, t in self._modules[k].state_dict().items()}
        return self._live.layout.state_dict(self._live.rows[k], self._live.architecture.module)

    def _write(self, given: Mapping[int, object]) -> None:
        """State dicts of some models; all are checked before the first is written."""
        if self._live is None:
            made = {k: states.loaded(self._modules[k], state) for k, state in given.items()}
            for k, module in made.items():
                self._modules[k] = module
            return
        live = self._live
        rows = {
            k: states.row_of(live.layout, live.architecture.module, state)
            for k, state in given.items()
        }
        for k, row in rows.items():
            live.rows[k] = row
