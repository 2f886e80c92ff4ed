"""`CohortBackend`: pfl's simulation, with all users of a round trained at once."""

from __future__ import annotations

import warnings

from pfl.aggregate.base import Aggregator
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import FederatedAlgorithm
from pfl.common_types import Population
from pfl.context import CentralContext
from pfl.data.federated_dataset import FederatedDatasetBase
from pfl.metrics import Metrics
from pfl.model.base import Model
from pfl.model.pytorch import PyTorchModel
from pfl.postprocessor.base import Postprocessor
from pfl.stats import TrainingStatistics

from .cohort_training import CohortTraining, own_method
from .expected_calls import is_own, returns_at_once
from .round_model import RoundModel
from .statistics import CohortSum
from .trained_users import TrainedUsers
from .user_samples import UserSamples


class CohortBackend(SimulatedBackend):
    """A `SimulatedBackend` that trains the users of a round through `fedfast.Cohort`.

    Takes the same arguments. Sampling of users, algorithms, postprocessors (weighting, local and
    central privacy), the aggregator, metrics and callbacks are pfl's own code; the local steps
    alone are done for many users at once. What cannot be is trained by pfl's loop: then
    `loop_because` is the reason ("" otherwise), and it has been a warning once.
    """

    loop_because = ""
    _training_dataset: FederatedDatasetBase | TrainedUsers
    _training: tuple[PyTorchModel, CohortTraining] | None = None
    _left: tuple[object, type] | None = None  # model and algorithm that pfl's loop trains

    def __init__(
        self,
        training_data: FederatedDatasetBase,
        val_data: FederatedDatasetBase,
        postprocessors: list[Postprocessor] | None = None,
        aggregator: Aggregator | None = None,
        max_overshoot_fraction: float = 0.0,
    ) -> None:
        aggregator = CohortSum() if aggregator is None else aggregator
        super().__init__(
            training_data, val_data, postprocessors, aggregator, max_overshoot_fraction
        )

    async def async_gather_results(
        self,
        model: Model,
        training_algorithm: FederatedAlgorithm,
        *,
        central_context: CentralContext,
    ) -> tuple[TrainingStatistics | None, Metrics]:
        """As `SimulatedBackend`'s. A cohort on which nobody trains is evaluated by it."""
        kind = (model, type(training_algorithm))
        if not isinstance(model, PyTorchModel):
            self._leave(kind, f"{type(model).__name__} is no PyTorchModel")
        elif method := own_method(model):
            self._leave(kind, f"{type(model).__name__} has a method {method} of its own")
        if central_context.population != Population.TRAIN or self._is_left(kind):
            return await super().async_gather_results(
                model, training_algorithm, central_context=central_context
            )
        assert isinstance(model, PyTorchModel)
        self.loop_because = ""

        def leave(reason: str) -> None:
            self._leave(kind, reason)

        name = type(training_algorithm).__name__
        stand_in = RoundModel(
            model,
            lambda: leave(f"{name} trains otherwise than pfl's own algorithms do"),
            is_own(training_algorithm),
            returns_at_once(training_algorithm),
        )
        users = TrainedUsers(
            self._training_dataset,
            stand_in,
            training_algorithm,
            central_context,
            lambda first: self._training_of(model, first),
            leave,
            self._settle,
        )
        former, self._training_dataset = self._training_dataset, users
        try:
            return await super().async_gather_results(
                stand_in, training_algorithm, central_context=central_context
            )
        finally:
            self._training_dataset = former
            if isinstance(self._aggregator, CohortSum):
                self._aggregator.forget()

    def _settle(self) -> None:
        if isinstance(self._aggregator, CohortSum):
            self._aggregator.settle()

    def _training_of(self, model: PyTorchModel, first: UserSamples) -> CohortTraining:
        known = self._training
        if known is None or known[0] is not model or not known[1].suits(first):
            self._training = model, CohortTraining(model, first)
        assert self._training is not None
        return self._training[1]

    def _is_left(self, kind: tuple[object, type]) -> bool:
        return self._left is not None and all(
            mine is its for mine, its in zip(self._left, kind, strict=True)
        )

    def _leave(self, kind: tuple[object, type], reason: str) -> None:
        if self._is_left(kind):
            return
        self._left, self.loop_because = kind, reason
        warnings.warn(
            f"{kind[1].__name__}: users are trained one by one, by pfl's own loop, since {reason}",
            stacklevel=2,
        )
