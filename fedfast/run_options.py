"""The options of a simulation that a YAML file can hold too.

Imports nothing heavy: the command line lists these options without loading torch. Hence the quoted
types, and names that a test compares with those of `fedfast.kernels`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from .validation.values import Count, Number, OneOf, Share, memory_budget

if TYPE_CHECKING:
    import torch

    from .data import Augment


SAMPLING = OneOf(("exact", "bernoulli"))


@dataclass(frozen=True, eq=False, kw_only=True)
class RunOptions:
    """Options of plain values, None included. The first text of each is its help."""

    rounds: Annotated[int, Count(), "communication rounds"] = 100
    participation: Annotated[
        float,
        Share(),
        "share of the clients that trains in each round",
        "max(1, round(share * clients)) of them",
    ] = 0.1
    # An epoch's number leaves 8 bits of a random counter to other purposes.
    local_epochs: Annotated[
        int, Count((1 << 24) - 1), "passes over its own data a client makes per round"
    ] = 1
    batch_size: Annotated[int | None, Count(), "samples per local step; None = all"] = 50
    lr: Annotated[
        float | Callable[[int], float],
        "local learning rate of round 1; in a file also {name: cosine, start: .., rounds: ..}",
        "in Python a callable: lr(t) in round t, from 0",
    ] = 0.1
    lr_decay: Annotated[float, Number(gt=0), "factor on lr after each round"] = 1.0
    lr_decay_per: Annotated[
        str,
        OneOf(("round", "client_epoch")),
        "lr_decay after each round, or after each local epoch of a client",
        "then every client has a rate of its own, lr * lr_decay**(local epochs that it has done, "
        "in all rounds it took part in)",
    ] = "round"
    server_lr: Annotated[float, Number(gt=0), "server learning rate", "the papers' eta_g"] = 1.0
    weight_decay: Annotated[
        float, Number(ge=0), "L2 factor of the local steps", "added after clipping, as torch's SGD"
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
        "str | Augment | None",
        "crops and flips of training images; -batch: alike in a step; None = none",
        'of bytes (uint8): an `Augment`, or "crop-flip", "crop-flip-batch", "crop-flip-half"',
    ] = None
    sampling: Annotated[
        str,
        SAMPLING,
        "cohorts of exactly that share, or each client with that probability",
        "at least one takes part",
    ] = "exact"
    drop_last: Annotated[
        bool,
        "leave out the last batch of an epoch where it is not whole",
        "as torch's DataLoader does; clients with less than one batch are then treated as "
        "`empty_clients` has it. A `schedule` of one's own has its own batches",
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
    client_metrics: Annotated[
        bool,
        "test losses of each client too, and in a run folder clients.csv of all of them",
        "on the clients' own test parts, in tested rounds; `evaluate_clients()` returns them",
    ] = False
    seed: Annotated[
        int,
        "seed of cohorts, batches, augmentation, dropout; in a file of weights and partition too",
        "draws are by (seed, round, client)",
    ] = 0
    device: Annotated[
        "str | torch.device", "auto, cpu, cuda or cuda:N", "auto is CUDA where there is one"
    ] = "auto"
    threads: Annotated[
        int | None, Count(4096), "CPU threads; None = all cores", "no result depends on it"
    ] = None
    backend: Annotated[
        str,
        OneOf(("auto", "native", "triton", "reference")),
        "which implementation of the operations",
    ] = "auto"
    precision: Annotated[
        str,
        OneOf(("fp32", "tf32x3", "tf32", "bf16")),
        "how far a GPU may round float32 products; the CPU never does",
        "in training and evaluation; fp32 is not at all",
    ] = "fp32"
    chunk: Annotated[
        int | None, Count(), "clients trained together; None = what fits", "no result depends on it"
    ] = None
    memory: Annotated[
        float | str,
        memory_budget,
        "GiB the run may take, which limits K; auto = a share of what is free",
        "the attribute `memory` is the plan made of it. Where a GPU runs out all the same K is "
        "halved",
    ] = "auto"
    on_divergence: Annotated[
        str,
        OneOf(("stop", "continue")),
        "when a client's weights are no longer finite: stop, or go on without",
        "either way the row reports it and the global model stays finite",
    ] = "stop"
    empty_clients: Annotated[
        str, OneOf(("skip", "refuse")), "clients without samples: skip them, or refuse to run"
    ] = "skip"
