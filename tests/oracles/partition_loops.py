"""The partitions as loops over clients in numpy, one array per client: what vectorised ones equal.

Each takes labels [n] and returns the rows of every client.
"""

import numpy as np


def generator(seed):
    return np.random.Generator(np.random.Philox(seed))


def iid(labels, clients, seed, sigma=0.0):
    rng = generator(seed)
    order = rng.permutation(labels.size)
    if sigma == 0:
        return np.array_split(order, clients)
    return np.split(order, np.cumsum(_sizes(rng, labels.size, clients, sigma))[:-1])


def dirichlet(labels, clients, seed, alpha, min_size):
    rng = generator(seed)
    counts = np.bincount(labels)
    while True:
        shares = rng.dirichlet(np.full(clients, alpha), size=counts.size)
        sizes = np.diff(_cuts(shares, counts), axis=1, prepend=0, append=counts[:, None]).sum(0)
        if sizes.min() >= min_size:
            return _split(rng, labels, shares)


def shards(labels, clients, seed, classes_per_client):
    rng = generator(seed)
    holds = _assign(rng, np.bincount(labels), clients, classes_per_client)
    return _split(rng, labels, holds / np.maximum(1, holds.sum(1, keepdims=True)))


def dirichlet_equal(labels, clients, seed, alpha, sigma=0.0, refill=False, starve=False):
    rng = generator(seed)
    prior = rng.dirichlet(np.full(labels.max() + 1, alpha), size=clients)
    sizes = _sizes(rng, labels.size, clients, sigma)
    return _draw(rng, labels, prior, sizes, True, refill, starve)


def pathological(labels, clients, seed, classes_per_client, refill=False):
    rng = generator(seed)
    counts = np.bincount(labels)
    prior = np.zeros((clients, counts.size))
    for own in prior:
        chosen = rng.choice(np.flatnonzero(counts), classes_per_client, replace=False)
        own[chosen] = 1 / classes_per_client
    return _draw(rng, labels, prior, _sizes(rng, labels.size, clients, 0.0), True, refill, False)


def hsu(labels, clients, seed, alpha):
    rng = generator(seed)
    counts = np.bincount(labels)
    if alpha == 0:
        return _one_class(rng, labels, counts, clients)
    present = np.flatnonzero(counts)
    prior = np.zeros((clients, counts.size))
    prior[:, present] = rng.dirichlet(alpha * counts[present] / labels.size, size=clients)
    return _draw(rng, labels, prior, _sizes(rng, labels.size, clients, 0.0), False, False, False)


def natural(owner, clients, seed, min_size):
    ids, sizes = np.unique(owner, return_counts=True)
    ids = ids[sizes >= min_size]
    if clients is not None:
        ids = np.sort(generator(seed).choice(ids, clients, replace=False))
    return [np.flatnonzero(owner == i) for i in ids]


def _sizes(rng, total, clients, sigma):
    if sigma == 0:
        return np.full(clients, total // clients, dtype=np.int64)
    raw = rng.lognormal(0.0, sigma, clients)
    exact = raw / raw.sum() * (total - clients)
    sizes = np.floor(exact).astype(np.int64)
    short = total - clients - int(sizes.sum())
    sizes[np.argsort(sizes - exact, kind="stable")[:short]] += 1
    return sizes + 1


def _cuts(shares, counts):
    reached = np.cumsum(shares, axis=1)[:, :-1] * counts[:, None]
    return np.minimum(np.floor(reached + 1e-9), counts[:, None]).astype(np.int64)


def _split(rng, labels, shares):
    counts = np.bincount(labels, minlength=shares.shape[0])
    cuts = _cuts(shares, counts)
    parts = [
        np.split(rng.permutation(np.flatnonzero(labels == c)), cuts[c]) for c in range(counts.size)
    ]
    return [np.concatenate([part[i] for part in parts]) for i in range(shares.shape[1])]


def _assign(rng, counts, clients, each):
    present = np.flatnonzero(counts)
    has = np.zeros((counts.size, clients), dtype=np.int64)
    holders = np.zeros(present.size, dtype=np.int64)
    for client in rng.permutation(clients):
        chosen = np.lexsort((rng.random(present.size), holders))[:each]
        holders[chosen] += 1
        has[present[chosen], client] = 1
    return has


def _one_class(rng, labels, counts, clients):
    holds = _assign(rng, counts, clients, 1)
    holders = holds.sum(axis=1)
    some = holders > 0
    each = min(labels.size // clients, int((counts[some] // holders[some]).min()))
    stacks = {
        c: iter(rng.permutation(np.flatnonzero(labels == c))) for c in np.flatnonzero(holders)
    }
    return [np.array([next(stacks[c]) for _ in range(each)]) for c in holds.argmax(axis=0)]


def _draw(rng, labels, prior, sizes, one_by_one, refill, starve):
    left = np.bincount(labels, minlength=prior.shape[1])
    stacks = [rng.permutation(np.flatnonzero(labels == c)) for c in range(left.size)]
    prior = _without(prior, left)
    reach = np.cumsum(prior, axis=1)
    rows = [[] for _ in sizes]
    in_turn = np.repeat(np.arange(sizes.size), sizes).tolist()
    turns = _turns(rng, sizes) if one_by_one else iter(in_turn)
    for i, draw in zip(turns, rng.random(int(sizes.sum())), strict=True):
        c = _class(reach[i], draw, starve)
        while left[c] == 0:
            left[c] = len(stacks[c])
            c = _class(reach[i], rng.random(), starve)
        left[c] -= 1
        rows[i].append(int(stacks[c][left[c]]))
        if left[c] == 0 and left.any() and not refill:
            prior = _without(prior, left)
            reach = np.cumsum(prior, axis=1)
    return [np.array(own, dtype=np.int64) for own in rows]


def _class(reach, draw, starve):
    total, low = reach[-1], reach[0] if starve else 0.0
    c = int(reach.searchsorted(low + draw * (total - low), side="right"))
    return c if c < reach.size else int(reach.searchsorted(total))


def _without(prior, left):
    kept = np.where(left > 0, prior, 0.0)
    kept[kept.sum(axis=1) == 0] = left
    return kept


def _turns(rng, sizes):
    missing, waiting = sizes.tolist(), np.flatnonzero(sizes).tolist()
    for draw in rng.random(int(sizes.sum())).tolist():
        at = int(draw * len(waiting))
        i = waiting[at]
        missing[i] -= 1
        if missing[i] == 0:
            waiting[at] = waiting[-1]
            waiting.pop()
        yield i
