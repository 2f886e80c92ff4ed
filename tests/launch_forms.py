"""Every operation on banks, batches and sequences with every optional argument, for `launches.py`.

`layer_forms.py` has the forms whose machine code is looked at; here are those that only have to be
launched, so that their number is no matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from fedfast.kernels import (
    PlacedRows,
    Segments,
    Server,
    adam,
    advance,
    aggregate,
    cross_entropy,
    dropout,
    fetch,
    gather,
    gram,
    kl_gradient,
    log_softmax,
    log_softmax_backward,
    mix,
    perturb,
    sample_gaussian,
    sample_gaussian_backward,
    sensitivity,
    stats,
    step,
    sum_gaussians,
)
from fedfast.kernels.harmonize import harmonize
from fedfast.kernels.packing import ByStep, Into, Packed, Tally, Tones
from fedfast.kernels.server import RULES
from torch import Tensor

FAR = 2**31 + 64  # elements between clients: more than 32 bits count
Forms = Iterator[tuple[str, Callable[[], Any]]]


class Make(NamedTuple):
    """Operands of one dtype: as they are, with every size 1, or with clients `FAR` apart.

    The last are "meta" tensors, which have strides but no memory.
    """

    dtype: torch.dtype
    ones: bool = False
    far: bool = False

    @property
    def device(self) -> str:
        return "meta" if self.far else "cpu"

    def size(self, n: int) -> int:
        return 1 if self.ones else n

    def dense(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Without space between clients."""
        sizes = [self.size(n) for n in shape]
        return torch.zeros(sizes, dtype=dtype or self.dtype, device=self.device)

    def __call__(self, *shape: int) -> Tensor:
        """`[K, ...]`, what belongs to a client in one piece."""
        dense = self.dense(*shape)
        if not self.far:
            return dense
        places = torch.empty(dense.shape[0], FAR, dtype=self.dtype, device=self.device)
        return places[:, : dense[0].numel()].view(dense.shape)


def named(call: Callable[..., Any], *args: Any, **options: Any) -> tuple[str, Callable[[], Any]]:
    """A form: the operation with these arguments, named after those that are not tensors."""
    shown = (f"{k}={v if not isinstance(v, Tensor) else '...'}" for k, v in options.items())
    return f"{call.__name__} {' '.join(shown)}", partial(call, *args, backend="triton", **options)


def bank_forms(make: Make) -> Forms:
    """`mix`, `adam`, `perturb`, `step`, `stats`, `gram`, `harmonize`, `sensitivity`."""
    size = make.size(400)
    w, g, m = (make(3, 400) for _ in range(3))
    row, given = make.dense(400), make.dense(3)
    cut = Segments.of([0], [1]) if make.ones else Segments.of([0, 160], [150, 200], [True, False])
    layers = dict(segments=cut)
    for y, b in product((g, row), (1.0, given)):
        yield named(mix, w, y, b=b)
    for t, decoupled in product((1.0, given), (False, True)):
        how = dict(weight_decay=given, decoupled=decoupled)
        yield named(adam, w, g, m, make(3, 400), t, 0.1, **how)
        yield named(adam, row, row, m, make(3, 400), t, given, out=w, **how)
    rho = make.dense(3, cut.count)
    known = (dict(), dict(norm=given)), (dict(), dict(adaptive=0.01)), (dict(), layers)
    for norm, adaptive, cuts in product(*known):
        yield named(perturb, w, [g, row], 0.1, alpha=given, **norm, **adaptive, **cuts)
    yield named(perturb, row, [g, row] * 4, rho if cut.count > 1 else given, **layers)
    yield named(perturb, w, g, rho, adaptive=0.5, **layers)
    clips = dict(), dict(clip_norm=1.0), dict(clip_norm=given, squares=_squares(make, 7))
    moments = dict(), dict(m=m, momentum=0.9), dict(m=m, momentum=given, nesterov=True)
    for clip, moment, prox in product(clips, moments, (dict(), dict(w_ref=row, lam=0.1))):
        yield named(step, w, [g, (m, 0.5)], 0.1, weight_decay=0.01, **clip, **moment, **prox)
    yield named(step, row, [g] * 8, given, w_ref=w, lam=given, out=w)
    for clip in clips:
        yield named(step, w, [g, (placed(make), 0.5)], 0.1, **clip)
    yield named(step, placed(make), [w, (row, -1.0)], -1.0, out=placed(make))
    yield named(perturb, w, [(placed(make), 0.5), row], 0.1)
    for y, x_ref, cuts in product((None, g), (None, row), (dict(), layers)):
        yield named(stats, w, y, x_ref=x_ref, y_ref=None if y is None else m, **cuts)
        yield named(gram, w, x_ref, **cuts)
    table, share = make.dense(2, 3, 3, dtype=torch.float64), make.dense(3, dtype=torch.float64)
    pairs = make.dense(3, 2, dtype=torch.int32)
    yield named(harmonize, table, share, pairs, True)
    for before, normalize in product((g, row), (False, True)):
        yield named(sensitivity, w, before, cut, normalize=normalize)
    assert w.shape[1] == size


def placed(make: Make) -> PlacedRows:
    return PlacedRows(make(9, 400), make.dense(3, dtype=torch.int64))


def _squares(make: Make, places: int) -> Tensor:
    return make.dense(3, places, dtype=torch.float64)


def server_forms(make: Make) -> Forms:
    """`aggregate`: chunks, bases of each client and shared, every rule."""
    w, g, row = make(3, 400), make(3, 400), make.dense(400)
    acc = make.dense(400, dtype=torch.float64)
    moments = dict(m=row.clone(), v=row.clone())
    for base, first in product((row, g), (True, False)):
        yield named(aggregate, w, make.dense(3), base, acc=acc, first=first)
        for rule in RULES:
            given = dict(server=Server(rule), w=row, **moments)
            yield named(aggregate, w, 0.5, base, acc=acc, first=first, **given)


def data_forms(make: Make) -> Forms:
    """`gather`: copies of any dtype, images in every look."""
    rows = make.dense(3, 5, dtype=torch.int64)
    for dtype in (make.dtype, torch.int64, torch.uint8):
        yield named(gather, make.dense(9, 20, dtype=dtype), rows)
    yield named(gather, make.dense(9, 20), rows, out=make(3, 5, 20))
    images, out = make.dense(9, 3, 8, 8, dtype=torch.uint8), make(3, 5, 3, 8, 8)
    tone = make.dense(3)
    looks = dict(), dict(scale=tone, shift=tone), dict(scale=tone, shift=tone, margin=tone)
    moves = dict(offset=make.dense(3, 5, 2, dtype=torch.int32)) if not make.ones else dict()
    for look, offset, flip in product(looks, (dict(), moves), (dict(), dict(flip=rows > 0))):
        yield named(gather, images, rows, out=out, **look, **offset, **flip)


def packed_forms(make: Make) -> Forms:
    """`fetch`: copies and images, moved and not, with seeds and without; `advance`."""
    rows, count = make.dense(7, 5, dtype=torch.int64), make.dense(7, dtype=torch.int32)
    lines, labels = make.dense(3, dtype=torch.int64), make.dense(9, dtype=torch.int64)
    y, counts = make.dense(3, 5, dtype=torch.int64), make.dense(3, dtype=torch.int32)
    table, given = Packed(rows, count, lines), (y, counts)
    seeds = dict(seeds=make.dense(7, dtype=torch.int64))
    x = make(3, 5, 20)
    drawn = x, *given, make.dense(3, dtype=torch.int64)
    yield named(fetch, make.dense(9, 20), labels, table, Into(x, *given), Tones())
    packed = replace(table, **seeds)
    yield named(fetch, make.dense(9, 20), labels, packed, Into(*drawn), Tones())
    images, tone = make.dense(9, 3, 8, 8, dtype=torch.uint8), make.dense(3)
    offset = torch.zeros(*rows.shape, 2, dtype=torch.int32, device=make.device)
    moves = dict(offset=offset, flip=rows > 0)
    for packed in (table, replace(table, **moves)):
        into = Into(make(3, 5, 3, 8, 8), *given)
        yield named(fetch, images, labels, packed, into, Tones(tone, tone, tone))
    total = make.dense(2, 3, dtype=torch.float64)
    tally = Tally(make.dense(3), counts, total, lines, make.dense(1, dtype=torch.int64)[0])
    yield named(advance, tally)
    places = make.dense(3, dtype=torch.int64)
    yield named(advance, tally, ByStep(make.dense(2, 4, 3), make.dense(2, 3), places))


def gaussian_forms(make: Make) -> Forms:
    """Operations of `gaussian.py`, with a divergence and without."""
    h = torch.zeros(1, 1, 2, dtype=make.dtype) if make.ones else make(3, 5, 20)  # 2 D is even
    noise, dz = make(3, 15, 10), make(3, 15, 10)
    y, count = make.dense(3, 5, dtype=torch.int64), make.dense(3, dtype=torch.int32)
    prior, losses = (make(3, 4, 10), make(3, 4, 10)), make.dense(3)
    yield named(sample_gaussian, h, noise, y, count)
    for beta in (0.0, 0.1):
        given = h, noise, dz, y, count, *prior
        yield named(sample_gaussian_backward, *given, losses=losses, beta=beta)
    sums = make(3, 4, 10), make(3, 4, 10)
    yield named(sum_gaussians, h, y, count, make.dense(3), precision=sums[0], pull=sums[1])


def batch_forms(make: Make) -> Forms:
    """`cross_entropy`, `kl_gradient`, `log_softmax`, `dropout`."""
    for batch, classes in (5, 10), (5, 600):
        logits, count = make(3, batch, classes), make.dense(3, dtype=torch.int32)
        targets = make.dense(3, batch, dtype=torch.int64)
        for dlogits in (logits, None):
            yield named(cross_entropy, logits, targets, count, dlogits=dlogits)
        for out in (logits, None):
            yield named(kl_gradient, logits, make(3, batch, classes), count, 3.0, out=out)
        for out in (logits, None):
            yield named(log_softmax, logits, out=out)
            yield named(log_softmax_backward, logits, make(3, batch, classes), dx=out)
    x, seeds = make(3, 5, 48), make.dense(3, dtype=torch.int64)
    for p, layer, span in product((0.0, 0.5, 1.0), (0, 1, 2**32 - 1), (1, make.size(48))):
        yield named(dropout, x, p, seeds, layer, span=span)
    numbers = np.float32(0.5), seeds, np.int64(1)
    yield named(dropout, x, *numbers, span=np.int32(make.size(48)))


FORMS = bank_forms, server_forms, data_forms, packed_forms, gaussian_forms, batch_forms
