"""The options of a `Simulation`: each is declared here and nowhere else.

From these fields come the signature and the documentation of `Simulation`, the checks of single
values, the keys of a YAML file with their bounds, and the flags of the command line with their
help. A dataclass rather than the signature itself, because its value can be handed on: to the
steps that build a simulation and to the checkpoint, which records it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Any

import torch
from torch import nn

from .algorithms import Algorithm
from .client_sampling import SAMPLINGS, Schedule
from .data import Augment, FederatedData
from .declarations import check_all, declarations
from .history import Row
from .kernels._args import PRECISIONS
from .kernels.registry import BACKENDS
from .metrics import Metric
from .network import Loss
from .validation.values import Count, Number, OneOf, Share, memory

# Any: the simulation, whose module imports this one.
Callback = Callable[[Any, Row], object]


@dataclass(frozen=True, eq=False, kw_only=True)
class RunOptions:
    """Options that a YAML file can hold too."""

    rounds: Annotated[int, Count(), "communication rounds", "as many as `run` makes in all"] = 100
    participation: Annotated[
        float,
        Share(),
        "share of the clients that trains in each round",
        "in (0, 1]: max(1, round(share * clients)) of them",
    ] = 0.1
    # An epoch's number leaves 8 bits of a random counter to other purposes.
    local_epochs: Annotated[
        int, Count((1 << 24) - 1), "passes over its own data a client makes per round"
    ] = 1
    batch_size: Annotated[
        int | None, Count(), "samples per local step; None = all", "the last of an epoch may be few"
    ] = 50
    lr: Annotated[
        float | Callable[[int], float],
        "local learning rate of round 1, or {name: cosine, start: .., rounds: ..}",
        "in Python a callable: lr(t) in round t, from 0",
    ] = 0.1
    lr_decay: Annotated[
        float, Number(gt=0), "factor on lr after each round", "lr * lr_decay**t in round t"
    ] = 1.0
    lr_decay_per: Annotated[
        str,
        OneOf(("round", "client_epoch")),
        "lr_decay after each round, or after each local epoch of a client",
        "then every client has a rate of its own, lr * lr_decay**(local epochs that it has done, "
        "in all rounds it took part in)",
    ] = "round"
    server_lr: Annotated[float, Number(gt=0), "server learning rate", "the papers' eta_g"] = 1.0
    weight_decay: Annotated[
        float, Number(ge=0), "L2 factor of the local steps", "joins after clipping, as in torch SGD"
    ] = 0.0
    clip_norm: Annotated[
        float | None, Number(gt=0), "largest norm of a local gradient; None = no clipping"
    ] = None
    aggregation: Annotated[
        str,
        OneOf(("samples", "uniform")),
        "client weights: by their number of samples, or all equal",
    ] = "samples"
    augment: Annotated[
        str | Augment | None,
        "crops and flips of training images; -batch: alike in a step; None = none",
        "images of bytes (uint8); an `Augment`, or 'crop-flip', 'crop-flip-batch', "
        "'crop-flip-half'",
    ] = None
    sampling: Annotated[
        str,
        OneOf(SAMPLINGS),
        "cohorts of exactly that share, or each client with that probability",
        "at least one takes part",
    ] = "exact"
    drop_last: Annotated[
        bool,
        "leave out the last batch of an epoch where it is not whole",
        "as torch's DataLoader does; clients with less than one batch are then treated as "
        "`empty_clients` has it; a `schedule` of one's own has its own batches",
    ] = False
    verify: Annotated[
        bool,
        "compare a layer program with autograd on the model before round 1",
        "in training and evaluation, on a few samples; where they differ autograd is used",
    ] = True
    eval_every: Annotated[
        int,
        Count(),
        "rounds from one test of the global model to the next",
        "on `test` and on the clients' own test parts, where they have some; the last round is "
        "always tested",
    ] = 1
    eval_last: Annotated[
        int, Count(), "so many of the last rounds are tested each", "for means over them"
    ] = 1
    seed: Annotated[
        int,
        "seed of weights, cohorts, batches and partition",
        "in Python of cohorts, batches, augmentation and dropout, by (seed, round, client)",
    ] = 0
    device: Annotated[
        str | torch.device, "auto, cpu, cuda or cuda:N", "'auto' is CUDA where there is one"
    ] = "auto"
    dtype: Annotated[torch.dtype, "type of the weights", "torch.float32 or torch.float64"] = (
        torch.float32
    )
    threads: Annotated[
        int | None,
        Count(4096),
        "CPU threads; None = all cores",
        "as many as torch has; neither K nor threads change a bit of the result",
    ] = None
    backend: Annotated[
        str,
        OneOf(BACKENDS),
        "which implementation of the operations",
        "'auto', 'native', 'triton', 'reference'",
    ] = "auto"
    precision: Annotated[
        str,
        OneOf(PRECISIONS),
        "how far a GPU may round float32 products; the CPU never does",
        "in training and evaluation: 'fp32' (not at all), 'tf32x3', 'tf32', 'bf16'",
    ] = "fp32"
    chunk: Annotated[int | None, Count(), "clients trained together; None = what fits", "K"] = None
    memory: Annotated[
        float | str,
        memory,
        "GiB the run may take, which limits K; auto = a share of what is free",
        "the attribute `memory` is the plan made of it; where a GPU runs out all the same K is "
        "halved",
    ] = "auto"
    on_divergence: Annotated[
        str,
        OneOf(("stop", "continue")),
        "when a client's weights are no longer finite: stop, or go on without",
        "such a client then counts as unmoved; either way the row reports it and the global model "
        "stays finite",
    ] = "stop"
    empty_clients: Annotated[
        str,
        OneOf(("skip", "refuse")),
        "clients without samples: skip them, or refuse to run",
    ] = "skip"


@dataclass(frozen=True, eq=False)
class SimulationOptions(RunOptions):
    """All options: objects first."""

    model: Annotated[
        nn.Module,
        "any `nn.Module`, [n, ...] -> [n, classes], or [n, ...] under a callable loss; its weights "
        "are round 0. It is copied, never changed: `model.load_state_dict(sim.state_dict())` "
        "takes the result home",
    ]
    clients: Annotated[
        FederatedData, "from a partition, or `FederatedData.from_arrays([x0, ...], [y0, ...])`"
    ]
    algorithm: Annotated[Algorithm | str, "an object of `fedfast.algorithms`, or its name"] = (
        "fedavg"
    )
    _: KW_ONLY
    test: Annotated[
        object, "optional global test set: (x, y) tensors, a torch Dataset, `Samples`"
    ] = None
    loss: Annotated[
        str | Loss,
        '"cross_entropy", or a callable (outputs, targets) -> mean over the batch, tried before '
        "round 1. The test loss is the callable on the whole test set, the training loss the mean "
        "of the steps' losses",
    ] = "cross_entropy"
    metric: Annotated[
        str | Metric,
        'what accuracies count: "auto" by loss and targets, "multiclass", "binary", "multilabel" '
        '(share of labels right), "none" (nan), or a callable (outputs, targets) -> [n] how right '
        "each sample is; see `fedfast.metrics`",
    ] = "auto"
    schedule: Annotated[
        Schedule | None,
        "a `Schedule` with its own rounds and batches; None draws one from the seed",
    ] = None
    callbacks: Annotated[Sequence[Callback], "called as f(sim, row) after each round"] = ()

    def __post_init__(self) -> None:
        check_all(self, declarations(SimulationOptions))
