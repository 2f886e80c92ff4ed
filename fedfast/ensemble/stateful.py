"""What an `Ensemble` is between steps: its models' states and rates, read and set."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ..torch_settings import usual_modes
from ..validation.values import integer
from . import state as states
from .live import Live
from .options import Options
from .rates import PerModel, Rates, per_model
from .trainer import kinds_kept


class Stateful:
    """K models' rates, state dicts and what their optimizer keeps.

    steps     how many have been taken
    _seed     of dropout
    _modules  the models before the first batch
    _live     the models from then on
    _kept     the optimizer's state for models that are not live yet
    """

    steps: int
    _seed: int
    _options: Options
    _rates: Rates
    _modules: list[nn.Module]
    _live: Live | None
    _kept: states.Kept

    def __len__(self) -> int:
        return self._options.count

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

    def state_dict(self, k: int | None = None) -> dict[str, object]:
        """Of model k, as its module's `load_state_dict` takes it; of the whole ensemble for None.

        The whole one holds the optimizer's state, rates, the number of steps and the seed of
        dropout as well: training goes on from it to the bit. `torch.save` writes both. Copies.
        """
        if k is not None:
            return dict(self._module_state(self._index(k)))
        live = self._live
        kept = self._kept if live is None else states.by_name(live.layout, live.trainer.kept)
        rates, where = states.rates_state(self._rates), dict(steps=self.steps, seed=self._seed)
        return dict(models=self.state_dicts(), optimizer=kept, rates=rates, **where)

    def state_dicts(self) -> list[dict[str, Tensor]]:
        """Those of all models."""
        return [self._module_state(k) for k in range(len(self))]

    @usual_modes()
    def load_state_dict(self, state: Mapping[str, object], k: int | None = None) -> None:
        """Set model k to a state dict of its module, or the whole ensemble to what it gave.

        What the optimizer keeps of a model stays when its weights alone are set.
        Raises TypeError/ValueError naming `state`; nothing has changed then.
        """
        if k is not None:
            self._write({self._index(k): state})
            return
        kinds = kinds_kept(self._options.optimizer)
        whole = states.Whole.of(state, self._modules[0], len(self), kinds)
        self._write(dict(enumerate(whole.models)))
        for name, value in whole.rates.items():
            setattr(self, name, value)
        self.steps, self._seed, self._kept = whole.steps, whole.seed, whole.optimizer
        if self._live is not None:
            self._live.draw_by(self._seed)
            states.write_kept(self._live.layout, self._live.trainer.kept, self._kept)

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
