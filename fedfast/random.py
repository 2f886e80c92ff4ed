"""Counter-based random numbers: each draw is a function of (seed, round, client, purpose) alone.

Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3") turns
a 128-bit counter and a 64-bit key into 128 random bits. Here the key is the seed and the counter is

    (position in the stream, purpose, client, round)        32 bits each

so nothing is ever carried from one client or round to another: a client's numbers are the same in
whatever order, chunk, cohort or process they are asked for.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ._messages import format_value
from .validation.values import integer

Words = NDArray[np.uint64]
Ints = NDArray[np.int64]

# Purposes keep the streams of one (seed, round, client) apart: the whole list, each once.
# Below 256; the epoch or the local step goes above.
COHORT = 1  # who takes part
BATCHES = 2  # the order of samples
DROPOUT = 3  # seeds of a module's own random numbers
AUGMENT = 4  # crops and flips
SPLIT = 5  # a client's own test part
ORDER = 6  # FedGH's pairs
SLICE = 7  # where FedALA's slice of a client begins
NOISE = 8  # FedCR's encoder
SELECT = 9  # FedFSA's random selection
EVALUATION = 10  # a module's own random numbers in evaluation
OWN = 11  # what components draw for themselves

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
# Elements generated and sorted at a time: 1 MiB of keys stays in a core's own cache.
_SLICE = 1 << 17


def _philox(c0: Words, c1: Words, c2: Words, c3: Words, k0: int, k1: int) -> tuple[Words, ...]:
    """Ten rounds on 32-bit words in uint64 (a 32 x 32 bit product is then one multiply)."""
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1 = (p1 >> _HALF) ^ (c1 ^ np.uint64(k0)), p1 & _LOW
        c2, c3 = (p0 >> _HALF) ^ (c3 ^ np.uint64(k1)), p0 & _LOW
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def philox4x32(counter: ArrayLike, key: tuple[int, int]) -> NDArray[np.uint32]:
    """Philox4x32-10 of counters `[..., 4]` under one key (k0, k1): random words `[..., 4]`."""
    words = np.asarray(counter, dtype=np.uint32).astype(np.uint64)
    parts = _philox(words[..., 0], words[..., 1], words[..., 2], words[..., 3], *key)
    return np.stack(parts, axis=-1).astype(np.uint32)


def check_seed(seed: int, name: str = "seed") -> int:
    """`seed` as an int in [0, 2^64); TypeError/ValueError otherwise."""
    integer(name, seed)
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"{name}: expected 0 <= {name} < 2^64; got {format_value(seed)}")
    return int(seed)


def check_words(name: str, array: np.ndarray) -> None:
    """Raise TypeError/ValueError unless these are integers in [0, 2^32)."""
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers; got dtype {array.dtype}")
    if array.size and not (0 <= array.min() and array.max() < 1 << 32):
        raise ValueError(f"{name}: expected values in [0, 2^32); got {array.min()}..{array.max()}")


def _word(name: str, value: ArrayLike) -> Words:
    array = np.asarray(value)
    check_words(name, array)
    return array.astype(np.uint64)


def keys64(seed: int, round: ArrayLike, client: ArrayLike, purpose: ArrayLike, count: int) -> Words:
    """`count` random 64-bit keys for each (round, client, purpose): uint64 `[..., count]`.

    `round`, `client` and `purpose` are integers or integer arrays in [0, 2^32) that broadcast to
    the leading shape. The first keys of a longer stream are those of a shorter one.
    """
    seed = check_seed(seed)
    parts = (_word("purpose", purpose), _word("client", client), _word("round", round))
    lead = np.broadcast_shapes(*(p.shape for p in parts))
    blocks = np.arange((count + 1) // 2, dtype=np.uint64)
    c1, c2, c3 = (np.broadcast_to(p, lead)[..., None] for p in parts)
    w0, w1, w2, w3 = _philox(blocks, c1, c2, c3, seed & 0xFFFFFFFF, seed >> 32)
    keys = np.empty((*lead, blocks.size, 2), dtype=np.uint64)
    keys[..., 0] = w0 | (w1 << _HALF)
    keys[..., 1] = w2 | (w3 << _HALF)
    return keys.reshape(*lead, 2 * blocks.size)[..., :count]


def generators(
    seed: int, round: int, clients: ArrayLike, purpose: int, device: torch.device
) -> list[torch.Generator]:
    """A torch generator for each of the `clients` [K], for numbers of a component's own.

    purpose  distinguishes the streams of a client and round, in [0, 2^24)
    """
    if not 0 <= purpose < 1 << 24:
        raise ValueError(f"purpose: expected 0 <= purpose < 2^24; got {purpose}")
    keys = keys64(seed, round, clients, OWN + 256 * purpose, 1)[..., 0] >> np.uint64(1)
    return [torch.Generator(device).manual_seed(int(key)) for key in keys]


def permutations(seed: int, round: int, clients: ArrayLike, sizes: ArrayLike, epochs: int) -> Ints:
    """Each client's shuffled sample indices, epoch by epoch: int64 `[C, epochs, max size]`.

    clients `[C]` ids, sizes `[C]` numbers of samples. `[c, e]` holds a permutation of
    0..sizes[c]-1, then -1. It depends on (seed, round, client, size, epoch) alone.
    """
    ids, counts = _word("clients", clients), _word("sizes", sizes).astype(np.int64)
    if ids.shape != counts.shape or ids.ndim != 1:
        raise ValueError(
            f"sizes: expected the shape [C] of clients, {list(ids.shape)}; got {list(counts.shape)}"
        )
    longest = int(counts.max(initial=0))
    out = np.full((ids.size, epochs, longest), -1, dtype=np.int64)
    # Clients of like size share a slice, so that little is generated only to be cut away.
    by_size = np.argsort(-counts, kind="stable")
    purposes = BATCHES + 256 * np.arange(epochs)
    start = 0
    while start < ids.size:
        n = int(counts[by_size[start]])
        rows = by_size[start : start + max(1, _SLICE // max(1, epochs * n))]
        keys = keys64(seed, round, ids[rows, None], purposes, n)
        out[rows, :, :n] = _order(keys, counts[rows])
        start += rows.size
    return out


def _order(keys: Words, sizes: Ints) -> Ints:
    """The order of the first `sizes[r]` of each row of keys `[R, E, n]`, then -1.

    The index rides in the low bits of its key, so that one plain sort orders it and ties cannot
    depend on the sort. As many bits as the client's own size needs, whoever shares the slice.
    """
    index = np.arange(keys.shape[-1], dtype=np.uint64)
    bits = np.frexp(sizes.astype(np.float64))[1].astype(np.uint64)
    low = ((np.uint64(1) << bits) - np.uint64(1))[:, None, None]
    real = np.broadcast_to(index < sizes[:, None, None].astype(np.uint64), keys.shape)
    tagged = np.where(real, (keys & ~low) | index, ~np.uint64(0))
    tagged.sort(axis=-1)
    return np.where(real, (tagged & low).astype(np.int64), -1)


def choose(seed: int, round: int, eligible: ArrayLike, m: int) -> Ints:
    """A cohort: `m` of the ids `eligible` `[N]` without replacement, in the order drawn: `[m]`.

    Every ordered cohort is equally likely. Costs O(m log m) up to m = N/2, O(N log N) above.
    """
    ids = np.asarray(eligible, dtype=np.int64)
    if not 0 <= m <= ids.size:
        raise ValueError(f"m: expected 0 <= m <= {ids.size}, the number of ids; got {m}")
    if 2 * m > ids.size:
        return ids[np.argsort(keys64(seed, round, 0, COHORT, ids.size), kind="stable")[:m]]
    # Independent draws with the repetitions left out are draws without replacement.
    count = 2 * m + 16
    while True:
        draws = keys64(seed, round, 0, COHORT, count) % np.uint64(ids.size) if m else ids[:0]
        first = np.sort(np.unique(draws, return_index=True)[1])[:m]
        if first.size == m:
            return ids[draws[first].astype(np.int64)]
        count *= 2


def toss(seed: int, round: int, eligible: ArrayLike, chance: float) -> Ints:
    """A cohort: each of the ids `eligible` `[N]` with probability `chance`, in their order.

    Where nobody would take part the likeliest one does: the smallest uniform draw.
    """
    ids = np.asarray(eligible, dtype=np.int64)
    draws = keys64(seed, round, 0, COHORT, ids.size) / 2.0**64
    return ids[(draws < chance) | (draws == draws.min() if draws.min() >= chance else False)]
