"""The local loops that an algorithm of pfl's will ask for, known before it asks.

pfl's `train_one_user` calls `PyTorchModel.do_multiple_epochs_of(dataset, params, step, **terms)`,
where `step` and `terms` say what is added to the gradient. All users of a cohort can train at once
where that call is known beforehand. Each is compared with the call that is made in the end: an
algorithm that asks for something else is trained by pfl's loop, and right all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from pfl.algorithm.base import FederatedAlgorithm, FederatedNNAlgorithm
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.algorithm.fedprox import FedProx
from pfl.algorithm.scaffold import SCAFFOLD
from pfl.context import CentralContext
from pfl.data.dataset import AbstractDataset
from pfl.exception import UserNotFoundError
from pfl.hyperparam import NNTrainHyperParams
from pfl.internal.bridge.pytorch.proximal import _proximal_train_step
from pfl.internal.bridge.pytorch.scaffold import _control_variate_train_step
from pfl.internal.bridge.pytorch.sgd import _sgd_train_step
from pfl.stats import MappedVectorStatistics

from .reasons import NotBatched

OWN_STEP = "own step"
PLAIN, PROXIMAL, VARIATE = _sgd_train_step, _proximal_train_step, _control_variate_train_step


@dataclass(frozen=True, eq=False)
class Call:
    """One call of `do_multiple_epochs_of`.

    terms  what the step is given besides: FedProx `mu`; SCAFFOLD `server_c` and `local_c`, None
           where it is zero, `OWN_STEP` where it is the difference made by the call before
    """

    step: Callable[..., None]
    params: NNTrainHyperParams
    terms: Mapping[str, object] = field(default_factory=dict)

    def is_made_by(
        self, step: Callable[..., None], params: NNTrainHyperParams, terms: Mapping[str, object]
    ) -> bool:
        """Whether a call with these arguments trains as this one."""
        alike = step is self.step and (params is self.params or params == self.params)
        return alike and all(same(value, terms.get(name)) for name, value in self.terms.items())


def same(known: object, given: object) -> bool:
    """Whether two terms are equal; None are variates of zeros."""
    if known is given:
        return True
    if isinstance(given, MappedVectorStatistics):
        if known is None:
            return not any(bool(t.any()) for t in given.values())
        assert isinstance(known, MappedVectorStatistics)
        return all(torch.equal(known[name], given[name]) for name in given)
    return known == given


def expected_calls(
    algorithm: FederatedAlgorithm,
    user: AbstractDataset,
    context: CentralContext,
    buffers: MappedVectorStatistics,
) -> list[Call]:
    """The calls that one user's training will make, in their order.

    buffers  what pfl's model returns differences in, for all users the same
    Raises NotBatched where `simulate_one_user` is not pfl's.
    """
    own = type(algorithm).simulate_one_user is not FederatedNNAlgorithm.simulate_one_user
    if own or not isinstance(context.model_train_params, NNTrainHyperParams):
        raise NotBatched(f"{type(algorithm).__name__} simulates a user in a way of its own")
    params = context.model_train_params
    if isinstance(algorithm, SCAFFOLD):
        return _scaffold(algorithm, user, context, buffers)
    if isinstance(algorithm, FedProx):
        return [Call(PROXIMAL, params, {"mu": context.algorithm_params.mu})]
    return [Call(PLAIN, params)]


def is_own(algorithm: FederatedAlgorithm) -> bool:
    """Whether what is done with a user is pfl's code, or that of a subclass."""
    return returns_at_once(algorithm) or (type(algorithm).train_one_user is SCAFFOLD.train_one_user)


def returns_at_once(algorithm: FederatedAlgorithm) -> bool:
    """Whether a user's statistics are the model's difference as it is, kept nowhere else."""
    train = type(algorithm).train_one_user
    return train in (FederatedAveraging.train_one_user, FedProx.train_one_user)


def _scaffold(
    algorithm: SCAFFOLD,
    user: AbstractDataset,
    context: CentralContext,
    buffers: MappedVectorStatistics,
) -> list[Call]:
    """Option I takes the gradient at the server's model first, as a step of size 1."""
    params, options = context.model_train_params, context.algorithm_params
    try:
        local = options.user_state_storage.load_state(str(user.user_id), "local_c")
    except UserNotFoundError:
        local = None
    # With option I what pfl keeps in memory is its buffer, which the user's first step overwrites.
    if local is not None and any(local[name] is buffers[name] for name in buffers):
        local = OWN_STEP
    calls = [Call(VARIATE, params, {"local_c": local, "server_c": algorithm._server_c})]
    if options.use_gradient_as_control_variate:
        whole = params.static_clone(
            local_learning_rate=1.0, local_batch_size=None, local_num_epochs=None, local_num_steps=1
        )
        calls.insert(0, Call(PLAIN, whole))
    return calls
