"""`fedfast.Cohort`s of one module, one for each kind of local step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from pfl.model.pytorch import PyTorchModel
from pfl.stats import MappedVectorStatistics
from torch import Tensor, nn

from ... import Cohort
from ...algorithms import SCAFFOLD, Algorithm, FedAvg, FedProx
from .declared_loss import DeclaredLoss
from .expected_calls import VARIATE, Call
from .local_optimizer import plain_sgd
from .reasons import NotBatched
from .user_parameters import UserParameters

KEPT = 4  # cohorts of the latest kinds; an adaptive mu makes a kind of each of its values
Samples = Sequence[tuple[Tensor, Tensor]]
Batches = Sequence[np.ndarray]


class Kind(NamedTuple):
    """What a cohort is made for; what is not in it may change from call to call."""

    step: object
    mu: float | None
    clip_norm: float | None
    weight_decay: float


class Cohorts:
    """Trains users' samples from a model's present parameters.

    module  the model's own, or a part that holds its layers
    """

    def __init__(self, model: PyTorchModel, module: nn.Module, loss: str | DeclaredLoss) -> None:
        self._model, self._module, self._loss = model, module, loss
        self._made: dict[Kind, Cohort] = {}

    def kind(self, call: Call) -> Kind:
        """Which cohort trains the call."""
        sgd = plain_sgd(self._model, call.params.get("local_learning_rate"))
        clip = call.params.get("local_max_grad_norm")
        mu = call.terms.get("mu")
        return Kind(
            call.step, float(mu) if isinstance(mu, float | int) else None, clip, sgd.weight_decay
        )

    def train(
        self, data: Samples, batches: Sequence[Batches], calls: Sequence[Call], seed: int
    ) -> list[UserParameters | None]:
        """One call for every user; None for one that diverged.

        Raises NotBatched with what the cohort refuses.
        """
        try:
            cohort = self._cohort(calls[0], data, batches)
            if calls[0].step is VARIATE:
                _load_variates(cohort, calls)
            update = cohort.train(
                state=cohort.layout.flatten(self._module, data[0][0].device),
                data=data,
                batches=batches,
                lr=plain_sgd(self._model, calls[0].params.get("local_learning_rate")).lr,
                round=seed,
            )
        except NotBatched:
            raise
        except Exception as error:  # a user's own loss may raise anything; pfl's loop will too
            raise NotBatched(str(error) or type(error).__name__) from error
        lost = set(update.diverged)
        return [
            None if j in lost else UserParameters(update, j, cohort.layout)
            for j in range(len(data))
        ]

    def _cohort(self, call: Call, data: Samples, batches: Sequence[Batches]) -> Cohort:
        kind = self.kind(call)
        if kind not in self._made:
            while len(self._made) >= KEPT:
                del self._made[next(iter(self._made))]
            cohort = self._made[kind] = self._build(kind, _widest(batches))
            cohort.train(data=data, batches=[[] for _ in data])  # no step: it is made from samples
        return self._made[kind]

    def _build(self, kind: Kind, width: int) -> Cohort:
        parameter = next(iter(self._model.variable_map.values()))
        return Cohort(
            self._module,
            algorithm=_algorithm(kind),
            batch_size=width,  # steps compute as many rows, padding too
            clip_norm=kind.clip_norm,
            weight_decay=kind.weight_decay,
            loss=self._loss,
            dtype=parameter.dtype,
            device=str(parameter.device),
            threads=torch.get_num_threads(),
            verify=not self._made,
        )


def _widest(batches: Sequence[Batches]) -> int:
    lists = {id(own): own for own in batches}.values()  # users of one size share theirs
    return max(len(batch) for own in lists for batch in own)


def _algorithm(kind: Kind) -> Algorithm:
    if kind.mu is not None:
        # pfl adds the proximal term to the loss: what it clips holds the term's gradient too.
        return FedProx(mu=kind.mu, clip="linear" if kind.clip_norm is None else "whole")
    return SCAFFOLD() if kind.step is VARIATE else FedAvg()


def _load_variates(cohort: Cohort, calls: Sequence[Call]) -> None:
    """pfl adds `server_c - local_c` to the gradients, as fedfast adds `c - c_i`."""
    cohort.load_server_state({"c": _row(cohort, calls[0].terms["server_c"])})
    for i, call in enumerate(calls):
        cohort.load_client_state(i, {"c_i": _row(cohort, call.terms["local_c"])})


def _row(cohort: Cohort, variate: object) -> Tensor:
    """A variate as a row of trained parameters; zeros for None."""
    row = cohort.layout.bank(1, full=False)[0]
    if isinstance(variate, MappedVectorStatistics):
        for name, view in cohort.layout.views(row, trained_only=True).items():
            view.copy_(variate[name])
    return row
