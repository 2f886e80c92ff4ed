"""The options of a `Cohort`, and the design that follows from them."""

from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import Annotated

import numpy as np
import torch
from torch import nn

from . import named_losses
from ._messages import format_value
from .data import FederatedData
from .declarations import check_all, declarations
from .design import Design
from .local_options import LocalOptions
from .options import AlgorithmOption, DtypeOption, LossOption, ModelOption, SimulationOptions
from .random import check_seed
from .validation import run as run_checks
from .validation.values import Count

TRIED = 512  # samples of a first call that model, loss and program are tried on


@dataclass(frozen=True, eq=False)
class CohortOptions(LocalOptions):
    """Those of a simulation that local training and the server's step depend on."""

    model: ModelOption
    data: Annotated[
        FederatedData | None, "the clients' own samples; None: samples come with each `train`"
    ] = None
    algorithm: AlgorithmOption = "fedavg"
    _: KW_ONLY
    dtype: DtypeOption = torch.float32
    loss: LossOption = "cross_entropy"
    population: Annotated[
        int | None,
        Count(1 << 27),
        "N, which SCAFFOLD, FedDyn and their like divide by; None = clients of `data`, or one more "
        "than the largest id met so far",
    ] = None

    def __post_init__(self) -> None:
        check_all(self, declarations(CohortOptions))
        object.__setattr__(self, "loss", named_losses.loss(self.loss))
        run_checks.dtype(self.dtype)  # here, for the design may be made much later
        check_seed(self.seed)
        if not isinstance(self.model, nn.Module):
            raise TypeError(f"model: expected an nn.Module; got {format_value(self.model)}")
        if not isinstance(self.data, FederatedData | None):
            raise TypeError(
                f"data: expected FederatedData, or None where it comes with each call of train; "
                f"got {format_value(self.data)}"
            )
        clients = 0 if self.data is None else self.data.num_clients
        if self.population is not None and self.population < clients:
            raise ValueError(
                f"population: expected at least {clients}, the clients of data; "
                f"got {self.population}"
            )


class CohortDesign(Design):
    """A design without a schedule: every call has clients and batches of its own.

    `cohort`, `width` and `longest` are the largest so far.
    """

    def __init__(self, options: CohortOptions, samples: FederatedData) -> None:
        shared = {f.name: getattr(options, f.name) for f in fields(LocalOptions)}
        super().__init__(
            SimulationOptions(
                options.model,
                _with_samples(samples),
                options.algorithm,
                dtype=options.dtype,
                loss=options.loss,
                rounds=1,
                on_divergence="continue",
                **shared,
            )
        )
        if self.algorithm.pools:
            raise ValueError(
                f"algorithm: expected one that trains clients; {self.algorithm.name!r} pools "
                "their samples"
            )

    def _check_schedule(self) -> None:
        # Padding is computed with: only what a call needs makes batches wider.
        self.cohort = self.width = self.longest = 1
        self.rounds = 1  # what clients keep grows with those who take part, nobody knows how far


def few_of(data: FederatedData) -> FederatedData:
    """One client with some of the samples, spread over all."""
    every = max(1, len(data.order) // TRIED)
    order = data.order[::every]
    offsets = torch.tensor([0, len(order)], device=order.device)
    few = data.samples.take(order)
    rows = torch.arange(len(order), device=order.device)
    return replace(
        data, x=few.x, y=few.y, order=rows, offsets=offsets, sizes=np.array([len(rows)]), test=None
    )


def _with_samples(data: FederatedData) -> FederatedData:
    """The same data without clients that have no samples, about whom a cohort need not warn."""
    some = data.sizes > 0
    if not some.any():
        raise ValueError("data: nobody has a sample")
    offsets = data.offsets[torch.from_numpy(np.append(some, True)).to(data.offsets.device)]
    return replace(data, offsets=offsets, sizes=data.sizes[some], test=None)
