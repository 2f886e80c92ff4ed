"""The best global model of a run, kept beside the last one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._messages import path_of
from ..files import atomic
from ..history import Row
from .base import CALLBACKS, RunInfo
from .best_so_far import BestSoFar, OfColumn

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .base import Sim


@CALLBACKS.register("keep_best")
class KeepBest(OfColumn):
    """Keeps a copy of the global model whenever a column of the history is better than ever.

    path    of a file for it; null = checkpoint/<label>.best.pt of the run folder, if there is one
    metric  a column of history.csv, of the run's metrics too; of accuracy and loss only tested
            rounds have values
    mode    whether more is better: max, min, or auto by the column's name

    The file is written when the simulation is saved and when the run ends: {"round", "value",
    "metric", "model"}, for `torch.load`. Of equal values the first counts.
    Raises ValueError/TypeError naming the argument.
    """

    def __init__(
        self, path: str | Path | None = None, metric: str = "accuracy", mode: str = "auto"
    ) -> None:
        super().__init__(metric, mode)
        self.path = None if path is None else path_of("path", path)
        self._best = BestSoFar(metric, self.sign)
        self._model: dict[str, Tensor] | None = None  # of the best row, once it is known
        self._to: Path | None = None
        self._written = 0  # the round of the model in the file, as far as it is known

    @property
    def round(self) -> int:
        """The round of the best model, 0 before there is one."""
        return 0 if self._best.row is None else self._best.row.round

    def state_dict(self) -> dict[str, Tensor]:
        """The best model. Raises ValueError where there is none."""
        if self._model is None:
            raise ValueError(
                f"keep_best: expected a tested round, found none with a value of {self.metric}"
                if self._best.row is None
                else f"keep_best: the model of round {self.round} was not kept in {self._to}"
            )
        return self._model

    def load(self, model: nn.Module) -> None:
        """Puts the best weights into `model`. Raises ValueError where there are none."""
        model.load_state_dict(self.state_dict())

    def on_start(self, sim: Sim, run: RunInfo) -> None:
        """Goes on from the rounds done before, and from the file where it holds their best."""
        super().on_start(sim, run)
        default = run.folder and run.folder / "checkpoint" / f"{run.label}.best.pt"
        self._to = self.path or default
        self._best = BestSoFar(self.metric, self.sign).see_all(sim.history)
        found = {} if self._to is None or self._best.row is None else _read(self._to)
        kept = found.get("round") == self.round and found.get("metric") == self.metric
        self._model = found["model"] if kept else None
        self._written = self.round if kept else 0

    def on_round_end(self, sim: Sim, row: Row) -> None:
        """Copies the model where it is better than all before."""
        if self._best.see(row):
            self._model = {name: t.detach().clone() for name, t in sim.state_dict().items()}

    def on_save(self, sim: Sim) -> None:
        """Writes the file, unless it holds this model."""
        if self._to is None or self._model is None or self._best.row is None:
            return
        if self._written == self.round:
            return
        import torch

        value = self._best.value(self._best.row)
        model = {name: tensor.cpu() for name, tensor in self._model.items()}
        made = {"round": self.round, "value": value, "metric": self.metric, "model": model}
        self._to.parent.mkdir(parents=True, exist_ok=True)
        atomic(self._to, lambda to: torch.save(made, to))
        self._written = self.round

    def on_end(self, sim: Sim) -> None:
        """Writes the file, unless it holds this model."""
        self.on_save(sim)


def _read(path: Path) -> dict[str, Any]:
    """What the file holds; nothing where there is none, or another."""
    import torch

    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
    except Exception:  # whatever torch raises for files that are none of its own
        return {}
    return found if isinstance(found, dict) and {"round", "model"} <= found.keys() else {}
