"""The resident MLP in NumPy, float32, every sum in the order of docs/gpu.md: for its bits.

One client of one hidden layer or two, their units shared between blocks as the cluster has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

F32, F64 = np.float32, np.float64
LANES, WARPS = 32, 8


def fma(a, b, c):
    """`a b + c`, rounded once: a sum in float64 whose last bit tells that something was lost."""
    product, c = np.multiply(a, b, dtype=F64), np.asarray(c, F64)
    total = np.asarray(product + c)
    there = total - product
    lost = (product - (total - there)) + (c - there)
    even = (total.view(np.int64) & 1) == 0
    towards = np.where(lost > 0, np.inf, -np.inf)
    return np.where((lost != 0) & even, np.nextafter(total, towards), total).astype(F32)


def tree(lanes):
    """[..., 32]: lane l and l + 16, then 8, 4, 2, 1 apart."""
    half = LANES // 2
    while half:
        lanes = lanes[..., :half] + lanes[..., half : 2 * half]
        half //= 2
    return lanes[..., 0]


def products(a, b, fours=None):
    """a [n, D], b [m, D] -> [n, m], over the given fours of columns."""
    spare = -a.shape[1] % 4
    a, b = (np.pad(v, ((0, 0), (0, spare))) for v in (a, b))
    start, stop = fours or (0, a.shape[1] // 4)
    sums = np.zeros((len(a), len(b), LANES), F32)
    for q in range(start, stop, LANES):
        n = min(LANES, stop - q)
        for part in range(4):
            at = 4 * (q + np.arange(n)) + part
            sums[..., :n] = fma(a[:, None, at], b[None, :, at], sums[..., :n])
    return tree(sums)


def chain(a, b):
    """a [n, j], b [j, m] -> [n, m], j after j."""
    sums = np.zeros((a.shape[0], b.shape[1]), F32)
    for j in range(a.shape[1]):
        sums = fma(a[:, j, None], b[None, j], sums)
    return sums


def over_batch(rows):
    """[B, n] -> [n], sample after sample."""
    total = np.zeros(rows.shape[1], F32)
    for row in rows:
        total = total + row
    return total


def exponential(x):
    n = np.rint(x * F32(1.44269504))
    r = fma(n, F32(2.12194440e-4), fma(n, F32(-0.693359375), x))
    total = np.full_like(x, F32(1) / F32(5040))
    for k in (720, 120, 24, 6, 2, 1, 1):
        total = fma(total, r, F32(1) / F32(k))
    return np.where(x < -87, F32(0), np.ldexp(total, n.astype(int))).astype(F32)


@dataclass
class Client:
    """Tensors W1 [H, D], b1, perhaps Wm [M, H], bm, and W2, b2, float32, which `step` moves."""

    tensors: list[np.ndarray]
    blocks: int
    velocity: list[np.ndarray] = field(init=False)

    def __post_init__(self):
        self.velocity = [np.zeros_like(t) for t in self.tensors]

    def parts(self, size):
        """The units of each block."""
        units = -(-size // self.blocks)
        return [slice(units * r, min(units * (r + 1), size)) for r in range(self.blocks)]

    def over_blocks(self, h, w, b):
        """h w^T + b, the inputs shared between blocks."""
        total = np.zeros((len(h), len(b)), F32)
        for part in self.parts(h.shape[1]):
            total = total + products(w[:, part], h[:, part]).T
        return total + b

    def output(self, h, w2, b2, y):
        """(gradient at the logits, mean loss)."""
        logits = self.over_blocks(h, w2, b2)
        most = logits.max(1, keepdims=True)
        e = exponential(logits - most)
        lanes = np.zeros((len(h), LANES), F32)
        for c in range(e.shape[1]):
            lanes[:, c % LANES] += e[:, c]
        total, rows = tree(lanes), np.arange(len(y))
        hit = np.zeros_like(e)
        hit[rows, y] = 1
        own = most[:, 0].astype(F64) - logits[rows, y]
        loss = sum((np.log(total.astype(F64)) + own).tolist()) / len(y)
        return (e / total[:, None] - hit) * (F32(1) / F32(len(y))), F32(loss)

    def above(self, z, rest, y):
        """From the first layer's z on: its d, the values h of all layers, their gradients, loss."""
        zs, hs = [z], [np.maximum(z, 0)]
        for w, b in zip(rest[:-2:2], rest[1:-2:2], strict=True):
            zs.append(self.over_blocks(hs[-1], w, b))
            hs.append(np.maximum(zs[-1], 0))
        d, loss = self.output(hs[-1], *rest[-2:], y)
        ds = [d]
        for w, below in zip(rest[-2::-2], zs[::-1], strict=True):
            ds.insert(0, np.where(below > 0, chain(ds[0], w), F32(0)))
        return ds, hs, loss

    def gram(self, x):
        fours = -(-x.shape[1] // 4)
        each = -(-fours // self.blocks)
        total = np.zeros((len(x), len(x)), F32)
        for r in range(self.blocks):
            own = min(r * each, fours), min((r + 1) * each, fours)
            total = total + products(x, x, own)
        return total + F32(1)

    def square(self, t, ds, gs):
        """|g|^2, float64: threads, lanes, warps, blocks. gs: of the weights above the first."""
        whole = 0.0
        sizes = [d.shape[1] for d in ds]
        parts = [self.parts(size) for size in sizes[:-1]]
        for r in range(self.blocks):
            own = np.zeros((WARPS, LANES))
            low = parts[0][r]
            terms = [t[:, low].astype(F64) * ds[0][:, low]]
            terms += [g[:, part[r]].astype(F64) ** 2 for g, part in zip(gs, parts, strict=True)][
                ::-1
            ]
            biases = [
                over_batch(d[:, part[r]]) for d, part in zip(ds[1:-1], parts[1:], strict=True)
            ]
            if r == 0:
                biases.append(over_batch(ds[-1]))
            for matrix in terms + [b[None].astype(F64) ** 2 for b in biases]:
                for i, row in enumerate(matrix):
                    for j, value in enumerate(row):
                        own[i % WARPS, j % LANES] += value
            whole += sum(tree(own).tolist())
        return whole

    def step(self, x, y, alpha, beta, rho=None, eps=0.0, clip=None, momentum=0.0, nesterov=False):
        """One local step on x [B, D], y [B]; the loss before it."""
        w1, b1, *rest = self.tensors
        z = products(w1, x).T + b1
        ds, hs, loss = self.above(z, rest, y)
        if rho is not None:
            t, gs = chain(self.gram(x), ds[0]), self.gradients(ds, hs)
            reach = F32(F64(F32(rho)) / (np.sqrt(self.square(t, ds, gs)) + eps))
            moved = [g for w, d in zip(gs, ds[1:], strict=True) for g in (w, over_batch(d))]
            ahead = [fma(reach, g, w) for g, w in zip(moved, rest, strict=True)]
            ds, hs, _ = self.above(fma(reach, t, z), ahead, y)
        gs, scale = self.gradients(ds, hs), F32(1)
        if clip is not None:
            norm = np.sqrt(self.square(chain(self.gram(x), ds[0]), ds, gs))
            scale = F32(min(1.0, clip[0] / (norm + clip[1])))
        whole = [chain(ds[0].T, x), *gs]
        g = [part for w, d in zip(whole, ds, strict=True) for part in (w, over_batch(d))]
        self.move(g, F32(alpha), F32(beta), scale, F32(momentum), nesterov)
        return loss

    @staticmethod
    def gradients(ds, hs):
        """Of the weights above the first."""
        return [chain(d.T, h) for d, h in zip(ds[1:], hs, strict=True)]

    def move(self, g, alpha, beta, scale, momentum, nesterov):
        for w, v, part in zip(self.tensors, self.velocity, g, strict=True):
            whole = fma(scale, part, F32(0))
            if not momentum:
                w[...] = fma(alpha, whole, beta * w)
                continue
            move = fma(alpha, whole, (beta - F32(1)) * w)
            v[...] = fma(momentum, v, move)
            w += fma(momentum, v, move) if nesterov else v
