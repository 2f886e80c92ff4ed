"""The options of a `Simulation`: each is declared once, here or in `run_options`, `local_options`.

From these fields come the signature and the documentation of `Simulation`, the checks of single
values, the keys of a YAML file with their bounds, and the flags of the command line with their
help. A dataclass rather than the signature itself, because its value can be handed on: to the
steps that build a simulation and to the checkpoint, which records it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Annotated

import torch
from torch import nn

from . import named_losses
from .algorithms import Algorithm
from .callbacks import Given
from .client_sampling import Schedule
from .data import FederatedData
from .declarations import check_all, declarations
from .losses import Loss
from .metrics.accuracy import Metric
from .metrics.agreement.round_metrics import Measure
from .run_options import RunOptions
from .validation.values import OneOf

# Of a simulation and of a cohort:
ModelOption = Annotated[
    nn.Module,
    "any `nn.Module`, [n, ...] -> [n, classes], or [n, ...] under a callable loss; its weights "
    "are round 0. It is copied, never changed: `model.load_state_dict(sim.state_dict())` "
    "takes the result home",
]
AlgorithmOption = Annotated[Algorithm | str, "an object of `fedfast.algorithms`, or its name"]
DtypeOption = Annotated[torch.dtype, "type of the weights", "torch.float32 or torch.float64"]
LossOption = Annotated[
    str | Loss,
    '"cross_entropy", a callable (outputs, targets) -> mean over the batch, or the name '
    '"package.module:Name" of one; tried before round 1. The test loss is the callable on the '
    "whole test set, the training loss the mean of the steps' losses",
]


@dataclass(frozen=True, eq=False)
class SimulationOptions(RunOptions):
    """All options: those of a file, and objects of Python."""

    model: ModelOption
    clients: Annotated[
        FederatedData, "from a partition, or `FederatedData.from_arrays([x0, ...], [y0, ...])`"
    ]
    algorithm: AlgorithmOption = "fedavg"
    _: KW_ONLY
    test: Annotated[
        object, "optional global test set: (x, y) tensors, a torch Dataset, `Samples`"
    ] = None
    dtype: DtypeOption = torch.float32
    loss: LossOption = "cross_entropy"
    metric: Annotated[
        str | Metric,
        'what accuracies count: "auto" by loss and targets, "multiclass", "binary", "multilabel" '
        '(share of labels right), "none" (nan), or a callable (outputs, targets) -> [n] how right '
        "each sample is; see `fedfast.metrics`",
    ] = "auto"
    metrics: Annotated[
        Sequence[str | Measure],
        'columns of the history measured beside each round: names ("cosine", "conflicts", '
        '"delta_eps", "norm", "drift", "momentum", "package.module:Name") or functions of a '
        "`SeenRound`; see `fedfast.metrics.agreement`. No result depends on them",
    ] = ()
    schedule: Annotated[
        Schedule | None,
        "a `Schedule` with its own rounds and batches; None draws one from the seed",
    ] = None
    callbacks: Annotated[
        Sequence[str | Mapping[str, object] | Given],
        "called as f(sim, row) after each round, or objects with methods as `Callback` has, or "
        "names of such, or {name: .., option: ..}",
    ] = ()

    ranks: Annotated[
        str | None,
        OneOf(("all",)),
        '"all": every process of torch.distributed\'s default group trains a part of each cohort, '
        "the result being that of one process; each of them makes the same calls",
    ] = None

    def __post_init__(self) -> None:
        check_all(self, declarations(SimulationOptions))
        object.__setattr__(self, "loss", named_losses.loss(self.loss))
