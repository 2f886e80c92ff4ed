"""`linear` in Triton: three products (`products.py`), and one kernel for dout and dbias."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from .._args import per_client
from .common import jit, launch, strided, tl
from .functions import differentiate
from .mix import mix
from .products import multiply, programs
from .sums import Squares, store_squares
from .tiles import fold, multiple, unit

BIAS_TILE, WARPS = (16, 64), 4


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str | None,
    out: Tensor,
    precision: str,
) -> Tensor:
    """`linear` in Triton."""
    multiply(x, weight, out, precision, turned=(False, True), bias=bias, activation=activation)
    return out


def linear_backward(
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    dout: Tensor,
    activation: str | None,
    dx: Tensor | None,
    dweight: Tensor | None,
    dbias: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    base_weight: Tensor | None,
    base_bias: Tensor | None,
    precision: str,
    squares: Tensor | None,
    gamma: Tensor,
    add_weight: Tensor | None,
    add_bias: Tensor | None,
) -> None:
    """`linear_backward` in Triton: dout and dbias, dx, dweight."""
    biases, partial = biases_of(dbias), Squares()
    if squares is not None:
        partial = Squares.of(x, biases + (0 if dweight is None else programs(dweight)))
    if activation is not None or dbias is not None:
        through(out, dout, activation, dbias, alpha, beta, base_bias, partial)
    if dx is not None:
        multiply(dout, weight, dx, precision)
    folded = alpha, beta, base_weight
    if dweight is not None:
        own = partial.behind(biases)
        multiply(dout, x, dweight, precision, turned=(True, False), folded=folded, partial=own)
    partial.add_up(squares)
    correct(((dweight, add_weight), (dbias, add_bias)), gamma)


def biases_of(dbias: Tensor | None) -> int:
    """How many programs of `through` write a client's dbias."""
    return 0 if dbias is None else -(-dbias.shape[1] // BIAS_TILE[1])


def correct(pairs: Iterable[tuple[Tensor | None, Tensor | None]], gamma: Tensor) -> None:
    """`to += gamma addend` of each pair that there is."""
    for to, addend in pairs:
        if to is not None and addend is not None:
            flat = to.flatten(1)
            mix(flat, addend.flatten(1), per_client("one", 1.0, gamma), gamma, flat)


def through(
    out: Tensor,
    dout: Tensor,
    activation: str | None,
    dbias: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    base: Tensor | None,
    partial: Squares = Squares(),  # noqa: B008 (it is immutable)
) -> None:
    """`dout *= act'(out)`, and its folded sum over the batch."""
    clients, batch, outputs = dout.shape
    launch(
        _derive,
        clients * -(-outputs // BIAS_TILE[1]),
        out,
        *(*strided(out), *strided(dout), *strided(dbias), *strided(base)),
        *(alpha, beta, tuple(partial), clients, batch, outputs),
        UNIT=min(unit(out, outputs), unit(dout, outputs)),
        KIND=activation,
        TILE=BIAS_TILE,
        num_warps=WARPS,
    )


@jit(do_not_specialize=["clients"])
def _derive(
    out: tl.tensor,  # [K, B, O]
    out_stride: tl.tensor,
    dout: tl.tensor,  # [K, B, O]
    dout_stride: tl.tensor,
    dbias: tl.tensor,  # [K, O]
    dbias_stride: tl.tensor,
    base: tl.tensor,  # [K, O]
    base_stride: tl.tensor,
    alpha: tl.tensor,  # [K]
    beta: tl.tensor,  # [K]
    partial: tl.tuple,  # see `store_squares`
    clients: tl.tensor,
    batch: tl.tensor,
    outputs: tl.tensor,
    UNIT: tl.constexpr,
    KIND: tl.constexpr,
    TILE: tl.constexpr,  # samples, outputs
) -> None:
    """`dout *= act'(out)`, `dbias = beta base + alpha sum_B dout`; a program per block of O."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    cols = tl.program_id(0) // clients * TILE[1] + tl.arange(0, TILE[1])
    width = multiple(outputs, UNIT)
    total = tl.zeros(TILE, dout.dtype.element_ty)
    for start in range(0, batch, TILE[0]):
        rows = (start + tl.arange(0, TILE[0]))[:, None]
        mask = (rows < batch) & (cols < width)
        offsets = rows * width + cols
        here = dout + k * multiple(dout_stride, UNIT) + offsets
        d = tl.load(here, mask, other=0.0)
        if KIND is not None:
            after = tl.load(out + k * multiple(out_stride, UNIT) + offsets, mask, other=0.0)
            d = differentiate(after, after, d, 0.0, KIND)
            tl.store(here, d, mask)
        total += d
    if dbias is not None:
        own = fold(
            tl.sum(total, axis=0),
            base + k * base_stride + cols,
            cols < outputs,
            tl.load(alpha + k),
            tl.load(beta + k),
        )
        store_squares(partial, k, tl.program_id(0) // clients, own, cols < outputs)
        tl.store(dbias + k * dbias_stride + cols, own, cols < outputs)
