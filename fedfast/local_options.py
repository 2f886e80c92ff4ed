"""The options of local training that a YAML file can hold too: those of a `Cohort`.

Imports nothing heavy: the command line lists these options without loading torch. Hence the quoted
types, and names that a test compares with those of `fedfast.kernels`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from .precisions import CHOICES
from .validation.values import Count, Number, OneOf, folder_name, memory_budget

if TYPE_CHECKING:
    import torch

    from .data import Augment


TIERS = ("auto", "device", "host", "disk")


@dataclass(frozen=True, eq=False, kw_only=True)
class LocalOptions:
    """What clients do, on which machine, and how the server takes it."""

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
        OneOf(CHOICES),
        "how far a GPU may round float32 products; auto: as float32 does",
        "in training and evaluation. tf32x3: to 1e-6 as exact as fp32, on tensor cores; it is what "
        "auto is on CUDA. tf32 and bf16 round operands. A CPU never does: there auto is fp32",
    ] = "auto"
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
    client_rows: Annotated[
        str,
        OneOf(TIERS),
        "where stateful clients' rows are kept between rounds; auto = the first with room",
        "device, then host (main memory), then disk, a sparse file that is gone with the process; "
        "no result depends on it",
    ] = "auto"
    client_rows_dtype: Annotated[
        str | None,
        OneOf(("float32", "bfloat16")),
        "float32 or bfloat16, which rows are rounded to between rounds; None = the weights'",
    ] = None
    client_rows_folder: Annotated[
        str | None, folder_name, "folder of the disk tier's file; None = run folder or temporary"
    ] = None
