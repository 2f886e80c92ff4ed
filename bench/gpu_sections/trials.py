"""Trials that a library's products must pass before the table of choices may name them.

They give the same bits again; each client's bits are those of the client alone whatever K is, at
every place of a block, also beside a client that has diverged; errors are at most `ERRORS` times
Triton's.
"""

from __future__ import annotations

import torch
from fedfast.kernels.choices import TRITON
from torch import Tensor

from gpu_sections.products import Operands

ERRORS = 3.0


def several_tried(most: int, block: int) -> tuple[int, ...]:
    """Numbers of clients: one, those that were timed, whole blocks, and one more and one fewer."""
    near = {n + more for n in (block, 2 * block) for more in (-1, 0, 1)}
    return tuple(sorted(n for n in {1, 5, 10, most, *near} if 1 <= n <= most))


def refused(
    operands: Operands, precision: str, part: str, name: str, several: tuple[int, ...]
) -> str:
    """Why a candidate is not admissible, ""; several: the K for which it is tried."""
    most = len(operands.x)
    operands.call("forward", TRITON, precision)
    calls = precision, part, name
    alone = [_results(operands, slice(k, k + 1), *calls) for k in range(most)]
    for count in (*several, most):
        found = _results(operands, slice(count), *calls)
        for k in range(count):
            if not _alike(found, k, alone[k]):
                return f"client {k} of {count} is not the client alone"
    spoiled, diverged = operands.of(slice(most), copied=True), most // 2
    for t in (spoiled.x, spoiled.weight, spoiled.dout):
        t[diverged] = float("nan")
    found = _results(spoiled, slice(most), *calls)
    for k in range(most):
        if k != diverged and not _alike(found, k, alone[k]):
            return f"client {k} is another beside a diverged one"
    return _inexact(operands, *calls)


def _alike(found: list[Tensor], k: int, alone: list[Tensor]) -> bool:
    """Whether client k's results are the client's alone, to the bit."""
    return all(torch.equal(a[k], b[0]) for a, b in zip(found, alone, strict=True))


def _results(
    operands: Operands, clients: slice, precision: str, part: str, name: str
) -> list[Tensor]:
    """What a call writes, copied."""
    return [t.clone() for t in operands.of(clients).call(part, name, precision)]


def _inexact(operands: Operands, precision: str, part: str, name: str) -> str:
    """Why its errors are too large: relative to the result, beside the reference in float64."""
    one = slice(0, 1)
    exact = operands.of(one).double().call(part, "reference", precision)

    def error(backend: str) -> float:
        found = operands.of(one).call(part, backend, precision)
        each = zip(found, exact, strict=True)
        return max(float((a.double() - b).norm() / b.norm().clamp_min(1e-30)) for a, b in each)

    own, triton = error(name), max(error(TRITON), 1e-7)
    return "" if own <= ERRORS * triton else f"error {own:.2g}, Triton's {triton:.2g}"
