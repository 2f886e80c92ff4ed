"""What local steps draw beside their batches: how images are moved, and seeds of random layers.

By the compiled module; where it is missing, by NumPy: the same bits.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .batches import Packing
from .data import Augment
from .kernels import schedule
from .random import AUGMENT, DROPOUT, Ints, Words, keys64
from .round_lines import packed_lines

Streams = tuple[int, int]  # (seed, round)


def crops(
    augment: Augment, streams: Streams, clients: Ints, packing: Packing, width: int
) -> tuple[Tensor, Tensor]:
    """offset [n, B, 2] int32 (y, x) in [-pad, pad] and flip [n, B] bool, of B = `width` slots.

    clients  [K] ids, whose batches are packed
    Of each 64-bit key 24 bits move the image down, 24 right, 15 decide whether, 1 mirrors it.
    """
    if not schedule.available():
        whose = clients[packing.client]
        made = crops_of(augment, streams, whose, packing.step, width)
        return torch.from_numpy(made[0]), torch.from_numpy(made[1])
    lines = packed_lines(len(clients), packing, width)
    offset = torch.empty(lines.total, width, 2, dtype=torch.int32)
    flip = torch.empty(lines.total, width, dtype=torch.bool)
    schedule.crops(
        *streams,
        lines,
        torch.from_numpy(clients),
        torch.from_numpy(packing.steps(len(clients))),
        offset,
        flip,
        pad=augment.pad,
        chance=augment.crop_chance,
        mirrors=augment.flip,
        per_batch=augment.per_batch,
    ).run()
    return offset, flip


def seeds(streams: Streams, clients: Ints, packing: Packing) -> Tensor:
    """A 63-bit seed of each packed batch [n], for its client's random layers."""
    if not schedule.available():
        return seeds_of(streams, clients[packing.client], packing.step)
    lines = packed_lines(len(clients), packing, 1)
    out = torch.empty(lines.total, dtype=torch.int64)
    who = torch.from_numpy(clients), torch.from_numpy(packing.steps(len(clients)))
    schedule.seeds(*streams, lines, *who, out).run()
    return out


def crops_of(
    augment: Augment, streams: Streams, clients: Ints, steps: Ints, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """`crops` by NumPy, of batches [n]: whose they are, and which of each client's."""
    slots = 1 if augment.per_batch else width
    keys = keys64(*streams, clients, AUGMENT + 256 * np.asarray(steps), slots)  # [n, slots]
    reach = 2 * augment.pad + 1
    moves = np.stack([_scaled(keys, 0, 24, reach), _scaled(keys, 24, 24, reach)], -1) - augment.pad
    whether = _scaled(keys, 48, 15, 1 << 15) < augment.crop_chance * (1 << 15)
    offset = np.where(whether[..., None], moves, 0).astype(np.int32)
    flip = (keys >> np.uint64(63)).astype(bool) & augment.flip
    shape = (*keys.shape[:-1], width)
    return np.broadcast_to(offset, (*shape, 2)).copy(), np.broadcast_to(flip, shape).copy()


def seeds_of(streams: Streams, clients: Ints, steps: Ints) -> Tensor:
    """`seeds` by NumPy, of batches [n]: whose they are, and which of each client's."""
    keys = keys64(*streams, clients, DROPOUT + 256 * steps, 1)[..., 0]
    return torch.from_numpy((keys >> np.uint64(1)).astype(np.int64))


def _scaled(keys: Words, at: int, bits: int, count: int) -> Ints:
    """An integer in [0, count) from `bits` bits of each key."""
    part = (keys >> np.uint64(at)) & np.uint64((1 << bits) - 1)
    return ((part * np.uint64(count)) >> np.uint64(bits)).astype(np.int64)
