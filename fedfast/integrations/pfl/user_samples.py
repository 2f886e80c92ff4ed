"""A user's samples, and the batches that pfl's loop would visit, in its order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np
import torch
from pfl.data.dataset import AbstractDataset, Dataset
from pfl.data.pytorch import PyTorchTensorDataset
from pfl.hyperparam import NNTrainHyperParams
from torch import Tensor

from .reasons import NotBatched

SLICED = Dataset.iter, PyTorchTensorDataset.iter  # batches are slices of what is in memory
LENGTH = Dataset.__len__


@dataclass(frozen=True, eq=False)
class UserSamples:
    """What one user trains on.

    x, y     `[n, ...]`, as pfl hands them to the loss
    batches  indices of each step's samples
    kwargs   what the loss is given besides (`train_kwargs`)
    """

    x: Tensor
    y: Tensor
    batches: list[np.ndarray]
    kwargs: Mapping[str, object]


def user_samples(
    user: AbstractDataset, params: NNTrainHyperParams, device: torch.device
) -> UserSamples:
    """What `do_multiple_epochs_of` would visit: epochs, `local_num_steps`, gradient accumulation.

    Raises NotBatched where a batch is not (inputs, targets), or the gradient of a step is no mean
    over its samples.
    """
    given = params.get("local_num_epochs")
    epochs = 1 if given is None else given
    size, steps = params.get("local_batch_size"), params.get("local_num_steps")
    together = params.grad_accumulation_steps
    if type(user).iter in SLICED and type(user).__len__ is LENGTH:
        x, y = _pair(next(iter(user.iter(None))), device)
        batches = _slices(x.shape[0], size, steps, epochs, together)
    else:
        x, y, visited = _visited(user, params, epochs, device)
        batches = _accumulated(visited, together)
    return UserSamples(x, y, batches, user.train_kwargs)


def _pair(batch: object, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tensors as pfl makes them: arrays become float32."""
    parts = batch if isinstance(batch, list | tuple) else ()
    if len(parts) != 2 or not all(isinstance(part, Tensor | np.ndarray) for part in parts):
        raise NotBatched("a user's data is not (inputs, targets), two tensors or arrays")
    x, y = (
        part.to(device)
        if isinstance(part, Tensor)
        else torch.as_tensor(part, dtype=torch.float32, device=device)
        for part in parts
    )
    return x, y


@lru_cache(maxsize=1024)
def _slices(
    n: int, size: int | None, steps: int | None, epochs: int, together: int
) -> list[np.ndarray]:
    """Of n samples in their order; users of one size share the list."""
    rows = np.arange(n)
    parts = [rows] if size is None else [rows[i : i + size] for i in range(0, n, size)]
    return _accumulated(parts[:steps] * epochs, together)


def _visited(
    user: AbstractDataset, params: NNTrainHyperParams, epochs: int, device: torch.device
) -> tuple[Tensor, Tensor, list[np.ndarray]]:
    """All batches of a dataset that makes them itself, one after another."""
    size, steps = params.get("local_batch_size"), params.get("local_num_steps")
    pairs = []
    for _ in range(epochs):
        pairs += [_pair(batch, device) for batch in islice(user.iter(size), steps)]
    if not pairs:
        raise NotBatched("a user has no samples")
    ends = np.cumsum([len(x) for x, _ in pairs])
    batches = np.split(np.arange(ends[-1]), ends[:-1])
    return torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs]), batches


def _accumulated(batches: list[np.ndarray], together: int) -> list[np.ndarray]:
    """The batches whose gradients pfl adds up before a step, joined; it divides by `together`."""
    if together == 1:
        return batches
    groups = [batches[i : i + together] for i in range(0, len(batches), together)]
    if any(len(g) < together or len({len(b) for b in g}) > 1 for g in groups):
        raise NotBatched("grad_accumulation_steps joins batches of unlike sizes")
    return [np.concatenate(group) for group in groups]
