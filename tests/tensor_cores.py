"""What tensor cores make of a product of TF32 operands, and what units of float32 do, in NumPy.

An instruction takes `block` products at a time, with what was summed before: products are exact,
all terms are cut off at `bits` bits below the largest exponent, the sum is exact and is cut off to
float32. Such models have been found by tests on devices: Fasi et al., "Numerical behavior of NVIDIA
tensor cores", PeerJ CS 2021; Khattak and Mikaitis, "Accurate Models of NVIDIA Tensor Cores",
arXiv:2512.07004; Xie et al., "MMA-Sim", arXiv:2511.10909. Here nothing was tried on a device:
`block` and `bits` are what bounds rest on, and section `operations` of the campaign measures.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from triton.runtime import interpreter

NOTHING = -400  # the exponent of 0, below that of any product


@dataclass(frozen=True)
class TensorCores:
    """block: terms that are added together; bits: kept below the largest exponent."""

    block: int
    bits: int

    def product(self, a: np.ndarray, b: np.ndarray, acc: np.ndarray) -> np.ndarray:
        """`acc + a b` of float32 [M, R], [R, N], [M, N]."""
        a, b = as_tf32(a), as_tf32(b)
        for start in range(0, a.shape[1], self.block):
            here = slice(start, start + self.block)
            acc = self._step(a[:, here, None], b[None, here, :], acc)
        return acc

    def _step(self, a: np.ndarray, b: np.ndarray, acc: np.ndarray) -> np.ndarray:
        products, before = a.astype(np.float64) * b, acc.astype(np.float64)
        tops = (exponents(a) + exponents(b)).max(axis=1)
        unit = np.ldexp(1.0, np.maximum(tops, exponents(acc)) - self.bits)
        total = np.trunc(products / unit[:, None]).sum(axis=1) + np.trunc(before / unit)
        return cut_off(total * unit)


AMPERE, HOPPER = TensorCores(4, 24), TensorCores(8, 25)


def exponents(x: np.ndarray) -> np.ndarray:
    """Of numbers 2^e (1 + f)."""
    return np.where(x == 0, NOTHING, np.frexp(x)[1] - 1)


def as_tf32(x: np.ndarray) -> np.ndarray:
    """What an instruction reads of float32: 11 significant bits, the others ignored."""
    return (x.view(np.int32) & -0x2000).view(np.float32)


def cut_off(x: np.ndarray) -> np.ndarray:
    """float64 towards 0 to float32."""
    near = x.astype(np.float32)
    return np.where(np.abs(near) > np.abs(x), np.nextafter(near, np.float32(0)), near)


def fused(a: np.ndarray, b: np.ndarray, acc: np.ndarray) -> np.ndarray:
    """`acc + a b` in float32, one fused multiply-add after another."""
    for r in range(a.shape[1]):
        exact = acc.astype(np.float64) + a[:, r, None].astype(np.float64) * b[None, r]
        acc = exact.astype(np.float32)
    return acc


@contextmanager
def emulated(cores: TensorCores) -> Iterator[list[str]]:
    """Products of float32 tiles in Triton's interpreter as on a device with such tensor cores.

    Yields the precision of each product.
    """
    builder, used = interpreter.InterpreterBuilder, list[str]()
    before = builder.create_dot

    def create_dot(self: Any, a: Any, b: Any, d: Any, precision: Any, most: Any) -> Any:
        if a.data.dtype != np.float32:
            return before(self, a, b, d, precision, most)
        used.append(precision.name)
        product = cores.product if precision.name == "TF32" else fused
        return interpreter.TensorHandle(product(a.data, b.data, d.data), d.dtype.scalar)

    builder.create_dot = create_dot
    try:
        yield used
    finally:
        builder.create_dot = before
