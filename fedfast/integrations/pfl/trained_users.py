"""A round's users, trained chunk by chunk before pfl's backend takes them one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from pfl.algorithm.base import FederatedAlgorithm
from pfl.algorithm.scaffold import SCAFFOLD
from pfl.context import CentralContext
from pfl.data.dataset import AbstractDataset
from pfl.data.federated_dataset import FederatedDatasetBase

from .cohort_training import CohortTraining
from .expected_calls import OWN_STEP, Call, expected_calls
from .reasons import NotBatched
from .round_model import RoundModel, Trained
from .user_samples import UserSamples, user_samples

CHUNK = 256  # users at most whose samples are held at once

Seeded = tuple[AbstractDataset, int]
Plan = list[tuple[Call, UserSamples]]


class TrainedUsers:
    """What `SimulatedBackend` asks of a federated dataset.

    make   the training of this model, given a first user's samples
    leave  told why the users are left to pfl's loop
    settle called when a chunk's users are through, before the next ones train
    """

    def __init__(
        self,
        users: FederatedDatasetBase,
        model: RoundModel,
        algorithm: FederatedAlgorithm,
        context: CentralContext,
        make: Callable[[UserSamples], CohortTraining],
        leave: Callable[[str], None],
        settle: Callable[[], None],
    ) -> None:
        self._users, self._model, self._context = users, model, context
        self._algorithm, self._make, self._report = algorithm, make, leave
        self._settle, self._left = settle, False

    def get_cohort(self, cohort_size: int) -> Iterable[tuple[AbstractDataset, int]]:
        """The users and their seeds; each has trained when it is handed out."""
        for chunk in self._chunks(self._users.get_cohort(cohort_size)):
            for (user, seed), trained in zip(chunk, self._train(chunk), strict=True):
                self._model.begin(user, trained)
                yield user, seed
                self._model.end()
            self._settle()

    def _chunks(self, users: Iterable[Seeded]) -> Iterator[list[Seeded]]:
        """Users whose calls are known at once: met again, a user with a state begins a chunk."""
        chunk: list[Seeded] = []
        met: set[str | None] = set()
        for user, seed in users:
            again = isinstance(self._algorithm, SCAFFOLD) and user.user_id in met
            if chunk and (again or len(chunk) == CHUNK):
                yield chunk
                chunk, met = [], set()
            chunk.append((user, seed))
            met.add(user.user_id)
        if chunk:
            yield chunk

    def _train(self, chunk: list[Seeded]) -> Iterator[list[Trained]]:
        """For each user its calls and the parameters after them, none where pfl is to train it."""
        plans = [self._plan(user) for user, _ in chunk]  # none where an earlier chunk has failed
        able = [j for j, plan in enumerate(plans) if plan and all(s.batches for _, s in plan)]
        trained: list[list[Trained]] = [[] for _ in chunk]
        try:
            for stage in range(len(plans[able[0]]) if able else 0):
                able = [j for j in able if plans[j]]
                self._stage(stage, able, plans, trained)
        except NotBatched as error:
            self._leave(str(error))
            return iter([[] for _ in chunk])
        return iter(trained)

    def _plan(self, user: AbstractDataset) -> Plan:
        if self._left:
            return []
        try:
            buffers, device = self._model.buffers, self._model.device
            calls = expected_calls(self._algorithm, user, self._context, buffers)
            return [(call, user_samples(user, call.params, device)) for call in calls]
        except NotBatched as error:
            self._leave(str(error))
            return []

    def _stage(
        self, stage: int, able: list[int], plans: list[Plan], trained: list[list[Trained]]
    ) -> None:
        """Train the users at `able` for one of their calls, in place."""
        if not able:
            return
        samples = [plans[j][stage][1] for j in able]
        calls = [self._known(plans[j][stage][0], trained[j]) for j in able]
        parameters = self._make(samples[0]).train(samples, calls, self._seed())
        for j, call, after in zip(able, calls, parameters, strict=True):
            if after is None:
                plans[j], trained[j] = [], []  # what its infinities do to the sum is pfl's matter
            else:
                trained[j].append((call, after))

    def _known(self, call: Call, before: list[Trained]) -> Call:
        """The call with its variate, where that is what the call before has made."""
        if call.terms.get("local_c") is not OWN_STEP:
            return call
        variate = self._model.difference(before[-1][1])
        return replace(call, terms={**call.terms, "local_c": variate})

    def _leave(self, reason: str) -> None:
        self._left = True
        self._report(reason)

    def _seed(self) -> int:
        seed = self._context.seed
        return self._context.current_central_iteration if seed is None else int(seed) >> 1
