"""Checks of the schedule: that it fits the data, the memory and the model."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from .._messages import warn_user
from ..client_sampling import Schedule
from ..data.size_limits import check_memory
from ..model_inspection import single_sample_trouble
from ..options import SimulationOptions

INDEX_COPIES = 5  # of a round's batch indices while they are cut


def schedule(options: SimulationOptions, sizes: np.ndarray) -> Schedule:
    """The given schedule, checked against the data's `sizes` `[N]`, or one drawn from the seed."""
    given = options.schedule
    if given is not None:
        if not isinstance(given, Schedule):
            raise TypeError(f"schedule: expected a fedfast.Schedule; got {type(given).__name__}")
        given.check(sizes)
        return given
    if options.drop_last:
        _check_whole_batches(sizes, options.batch_size, options.empty_clients)
    _check_batches_fit(int(sizes.max()), options.local_epochs)
    return Schedule.draw(
        sizes,
        rounds=options.rounds,
        participation=options.participation,
        local_epochs=options.local_epochs,
        batch_size=options.batch_size,
        seed=options.seed,
        sampling=options.sampling,
        drop_last=options.drop_last,
    )


def _check_batches_fit(longest: int, local_epochs: int) -> None:
    """Memory for one client's batches of a round: its permutations and what cuts them, int64."""
    size = INDEX_COPIES * 8 * longest * local_epochs
    check_memory(f"local_epochs: batches of {local_epochs:,} epochs of {longest:,} samples", size)


def _check_whole_batches(sizes: np.ndarray, batch_size: int | None, empty: str) -> None:
    """What drop_last leaves out: clients with less than one batch are skipped or refused."""
    without = np.flatnonzero((sizes > 0) & (sizes < (batch_size or 0)))
    if len(without) == 0:
        return
    found = (
        f"{len(without)} of {len(sizes)} clients have fewer samples than one batch of {batch_size} "
        f"(the first is client {without[0]} with {sizes[without[0]]})"
    )
    if empty == "refuse":
        raise ValueError(
            f"drop_last: {found}, so that they take no step; take a smaller batch_size, or "
            "empty_clients='skip'"
        )
    if (sizes >= (batch_size or 0)).any():
        warn_user(f"drop_last: {found} and are never sampled")


def check_single_samples(
    module: nn.Module, x: Tensor, schedule: Schedule, sizes: np.ndarray, whole: bool
) -> None:
    """Refuse a model that cannot be trained on one sample where some batch has only one.

    x      `[1, ...]`, a sample
    whole  whether all samples of a client are also taken beside the schedule, in batches as wide
    """
    who, width = schedule.single(), schedule.width
    if not who and whole:
        rest = np.flatnonzero((sizes > 0) & ((sizes - 1) % width == 0))
        who = (
            f"client {rest[0]} ({sizes[rest[0]]} samples in batches of {width})"
            if len(rest)
            else ""
        )
    problem = single_sample_trouble(module, x) if who else ""
    if problem:
        raise ValueError(
            f"batch_size: {who} has a batch of one sample, on which the model cannot be trained "
            f"({problem}); drop_last=True leaves such batches out, or take another batch_size or "
            "a model without BatchNorm there"
        )
