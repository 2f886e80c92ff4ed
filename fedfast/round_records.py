"""What the engine is given of a round, what it holds after the local steps, what came of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from .aggregation import RoundSums
from .algorithms.hooks import Cohort
from .client_sampling import Round
from .clients import ClientState
from .cohort_pass import Tally
from .state import Committed, ServerState


@dataclass(frozen=True)
class Work:
    """What a cohort is to do in round `t`.

    lr, epochs  of all clients, or of each in the order of `plan` [C]
    population  N
    rehearsal   the batches of a first exchange, for rules that rehearse
    following   clients of the round after, whose rows may have to be fetched; None: not known
    """

    t: int
    plan: Round
    lr: float | np.ndarray
    epochs: int | np.ndarray
    population: int
    rehearsal: Round | None = None
    following: np.ndarray | None = None


@dataclass(frozen=True)
class Trained:
    """A cohort after its local steps, until the next one trains: its models lie in live buffers.

    order    positions in the plan of the cohort's clients
    state    the server's, which clients were shown; sent: the model they were sent [S]
    clients  their new state
    sums     what server rows follow from, but for the mean
    owners   [N], which rank keeps each client's rows from now on, where there are ranks
    """

    order: np.ndarray
    cohort: Cohort
    state: ServerState
    sent: Tensor
    clients: ClientState
    sums: RoundSums
    tally: Tally
    owners: np.ndarray | None = None


@dataclass(frozen=True)
class Outcome:
    """What one round did.

    train_loss   mean over the samples seen, at the model each gradient was taken at
    update_norm  Euclidean norm of the mean client update
    norm_sum     sum over tensors of its norms
    diverged     ids of clients whose model became non-finite
    finite       whether the new global model is
    after        what holds from now on, once it is committed
    server_seconds  after the last client's training
    measured     columns of the run's metrics
    """

    train_loss: float
    update_norm: float
    norm_sum: float
    samples: int
    diverged: tuple[int, ...]
    finite: bool
    after: Committed
    server_seconds: float = math.nan
    measured: Mapping[str, float] = field(default_factory=dict)
