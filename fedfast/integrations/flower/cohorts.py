"""The cohorts of an app: two for each local rule, whose buffers take turns.

A strategy still holds the replies of a round while it sends the messages of the next one. Replies
read the buffers of the cohort that trained them, so that the next round trains another cohort.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import ReferenceType, ref

import numpy as np
import torch
from torch import Tensor, nn

from ... import Cohort
from ...algorithms import Algorithm
from .arrays import Rows
from .jobs import TrainJob
from .losses import is_cross_entropy
from .unsupported import Unsupported

if TYPE_CHECKING:
    from ...cohort_update import CohortUpdate

State = dict[str, Tensor]
ROUNDING = 1e-5  # of the largest number of a frozen tensor, which a strategy averages each round


@dataclass
class Slot:
    """A cohort, the state dict that it was made with, and who reads its buffers."""

    cohort: Cohort
    first: State
    rows: ReferenceType[Rows] | None = None

    @property
    def readers(self) -> Rows | None:
        """The rows of replies that somebody still holds."""
        return None if self.rows is None else self.rows()

    def settled(self, state: State) -> State:
        """The state with frozen tensors as the cohort has them, where averages only round them."""
        if self.rows is None:  # no layout yet, and `first` is the state
            return state
        constants = self.cohort.layout.constants
        return {n: _nearer(t, self.first[n]) if n in constants else t for n, t in state.items()}


@dataclass(frozen=True)
class Trained:
    """The clients of one call: models, and the means of their training losses [C] float64."""

    rows: Rows
    over_samples: np.ndarray
    over_batches: np.ndarray


@dataclass
class Cohorts:
    """Trains clients from one state; dtype: of models, None for the module's own."""

    network: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    dtype: torch.dtype | None = None
    slots: dict[tuple[object, float], list[Slot]] = field(default_factory=dict)

    def train(
        self, jobs: Sequence[TrainJob], batches: Sequence[list[list[int]]], state: State
    ) -> Trained:
        """Jobs of one rule, each on its own batches of rows of its samples, from `state`."""
        rule = jobs[0].rule
        slot = self._free(rule.algorithm, rule.weight_decay, state)
        rates = [job.rule.lr for job in jobs]
        data = [(job.partition.train.x, job.partition.train.y) for job in jobs]
        lr = rates[0] if len(set(rates)) == 1 else rates
        steps = [[np.asarray(batch) for batch in own] for own in batches]
        try:
            given = slot.settled(state)
            update = slot.cohort.train(state=given, data=data, batches=steps, lr=lr)
        except (TypeError, ValueError, RuntimeError) as error:
            raise Unsupported(f"a cohort refuses to train it: {error}") from error
        rows = Rows(_all_rows(update, state, len(jobs)))
        slot.rows = ref(rows)
        return Trained(rows, np.asarray(update.losses), np.asarray(update.batch_losses))

    def _free(self, algorithm: str | Algorithm, weight_decay: float, state: State) -> Slot:
        """A slot whose buffers nobody reads."""
        slots = self.slots.setdefault((algorithm, weight_decay), [])
        free = next((slot for slot in slots if slot.readers is None), None)
        if free is None and len(slots) < 2:
            free = self._made(algorithm, weight_decay, state)
            slots.append(free)
        if free is None:
            free = slots[0]
            held = free.readers
            if held is not None:
                held.keep()
            slots.reverse()
        return free

    def _made(self, algorithm: str | Algorithm, weight_decay: float, state: State) -> Slot:
        network = self.network()
        network.load_state_dict(state)  # frozen tensors stay what they are now
        own = next((p.dtype for p in network.parameters()), torch.float32)
        try:
            cohort = Cohort(
                network,
                algorithm=algorithm,
                weight_decay=weight_decay,
                loss="cross_entropy" if is_cross_entropy(self.loss) else self.loss,
                dtype=self.dtype or own,
            )
        except (TypeError, ValueError) as error:
            raise Unsupported(f"a cohort refuses it: {error}") from error
        return Slot(cohort, {name: tensor.clone() for name, tensor in state.items()})


def _nearer(given: Tensor, own: Tensor) -> Tensor:
    """`own` where `given` is it up to rounding."""
    if not given.is_floating_point() or given.numel() == 0:
        return given
    return own if float((given - own).abs().max()) <= ROUNDING * float(own.abs().max()) else given


def _all_rows(update: CohortUpdate, state: State, clients: int) -> dict[str, np.ndarray]:
    """Rows of all of the state dict; what training leaves alone is the same for all clients."""
    for j, client in enumerate(update.ids.tolist()):
        if client in update.diverged:  # the cohort goes on without it; the app would reply this
            update.models[j] = float("nan")
    trained = update.views()
    return {
        name: trained[name].numpy()
        if name in trained
        else np.broadcast_to(given.numpy(), (clients, *given.shape))
        for name, given in state.items()
    }
