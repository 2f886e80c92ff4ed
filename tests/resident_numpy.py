"""The resident MLP in NumPy, float32, every sum in the order of docs/gpu.md: for its bits.

One client; `blocks` parts of `units` hidden units each, as the cluster has them.
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
    """Tensors w1 [H, D], b1 [H], w2 [C, H], b2 [C], float32, which `step` moves."""

    w1: np.ndarray
    b1: np.ndarray
    w2: np.ndarray
    b2: np.ndarray
    blocks: int
    units: int
    velocity: list[np.ndarray] = field(init=False)

    def __post_init__(self):
        self.velocity = [np.zeros_like(t) for t in self.tensors]

    @property
    def tensors(self):
        return [self.w1, self.b1, self.w2, self.b2]

    @property
    def parts(self):
        ends = [min(self.units * (r + 1), len(self.b1)) for r in range(self.blocks)]
        return [slice(self.units * r, end) for r, end in enumerate(ends)]

    def output(self, h, w2, b2, y):
        """(gradient at the logits, mean loss)."""
        logits = np.zeros((len(h), len(b2)), F32)
        for part in self.parts:
            logits = logits + products(w2[:, part], h[:, part]).T
        logits = logits + b2
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

    def gram(self, x):
        fours = -(-x.shape[1] // 4)
        each = -(-fours // self.blocks)
        total = np.zeros((len(x), len(x)), F32)
        for r in range(self.blocks):
            own = min(r * each, fours), min((r + 1) * each, fours)
            total = total + products(x, x, own)
        return total + F32(1)

    def square(self, t, d, d2, g2):
        """|g|^2, float64: threads, lanes, warps, blocks."""
        whole = 0.0
        for r, part in enumerate(self.parts):
            own = np.zeros((WARPS, LANES))
            terms = [t[:, part].astype(F64) * d[:, part], g2[:, part].astype(F64) ** 2]
            if r == 0:
                terms.append(over_batch(d2)[None].astype(F64) ** 2)
            for matrix in terms:
                for i, row in enumerate(matrix):
                    for j, value in enumerate(row):
                        own[i % WARPS, j % LANES] += value
            whole += sum(tree(own).tolist())
        return whole

    def step(self, x, y, alpha, beta, rho=None, eps=0.0, clip=None, momentum=0.0, nesterov=False):
        """One local step on x [B, D], y [B]; the loss before it."""
        return self._step(x, y, F32(alpha), F32(beta), rho, eps, clip, F32(momentum), nesterov)

    def _step(self, x, y, alpha, beta, rho, eps, clip, momentum, nesterov, addend=None):
        z = products(self.w1, x).T + self.b1
        h = np.maximum(z, 0)
        d2, loss = self.output(h, self.w2, self.b2, y)
        d = np.where(z > 0, chain(d2, self.w2), F32(0))
        gram = self.gram(x)
        if rho is not None:
            t, g2 = chain(gram, d), chain(d2.T, h)
            reach = F32(F64(F32(rho)) / (np.sqrt(self.square(t, d, d2, g2)) + eps))
            z = fma(reach, t, z)
            h, w2 = np.maximum(z, 0), fma(reach, g2, self.w2)
            d2, _ = self.output(h, w2, fma(reach, over_batch(d2), self.b2), y)
            d = np.where(z > 0, chain(d2, w2), F32(0))
        g = [chain(d.T, x), over_batch(d), chain(d2.T, h), over_batch(d2)]
        scale = F32(1)
        if clip is not None:
            norm = np.sqrt(self.square(chain(gram, d), d, d2, g[2]))
            scale = F32(min(1.0, clip[0] / (norm + clip[1])))
        self._move(g, alpha, beta, scale, momentum, nesterov)
        return loss

    def _move(self, g, alpha, beta, scale, momentum, nesterov):
        for w, v, part in zip(self.tensors, self.velocity, g, strict=True):
            whole = fma(scale, part, F32(0))
            if not momentum:
                w[...] = fma(alpha, whole, beta * w)
                continue
            move = fma(alpha, whole, (beta - F32(1)) * w)
            v[...] = fma(momentum, v, move)
            w += fma(momentum, v, move) if nesterov else v
