"""`lstm` and `lstm_backward` in Triton: a launch per step of the sequence, products around them.

What all steps share is one product over the whole sequence (`linear`'s). A step is a launch, since
every unit reads all of the step before: a program owns some samples and units of a client, adds the
product with the weights between steps and goes through the gates. Nothing is kept beside gates and
cells: backward, a step makes dh from the gradients that the step after left in gates, and leaves dc
in cells.
"""

from __future__ import annotations

from torch import Tensor

from .common import Kernel, launch, strided
from .linear import through
from .lstm_steps import step_backward, step_forward
from .products import multiply
from .tiles import covering, dot_precision, unit

SAMPLES, UNITS = (16, 32), 16  # of a tile; samples: the first that covers, or the last
DEPTH, WARPS = {4: 32, 8: 16}, 4  # of the pieces a product is summed in, by element size


def lstm(
    x: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    gates: Tensor,
    cells: Tensor,
    out: Tensor,
    precision: str,
) -> Tensor:
    """`lstm` in Triton."""
    multiply(_flat(x), weight_ih, _flat(gates), precision, turned=(False, True))
    operands = gates, cells, out, weight_hh, bias_ih, bias_hh
    _steps(step_forward, range(x.shape[2]), out, operands, precision)
    return out


def lstm_backward(
    x: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    gates: Tensor,
    cells: Tensor,
    out: Tensor,
    dout: Tensor,
    dx: Tensor | None,
    dweight_ih: Tensor | None,
    dweight_hh: Tensor | None,
    dbias_ih: Tensor | None,
    dbias_hh: Tensor | None,
    base_weight_ih: Tensor | None,
    base_weight_hh: Tensor | None,
    base_bias_ih: Tensor | None,
    base_bias_hh: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    precision: str,
) -> None:
    """`lstm_backward` in Triton; weights are written when nobody reads them."""
    operands = gates, cells, dout, weight_hh
    _steps(step_backward, range(x.shape[2])[::-1], out, operands, precision)
    dz = _flat(gates)
    if dx is not None:
        multiply(dz, weight_ih, _flat(dx), precision)
    _fold(dz, _flat(x), dweight_ih, (alpha, beta, base_weight_ih), precision)
    for sink, base in (dbias_ih, base_bias_ih), (dbias_hh, base_bias_hh):
        if sink is not None:
            through(dz, dz, None, sink, alpha, beta, base)
    # With z of step 0 set to zero, a step's z and the h before it lie one row apart throughout.
    gates[:, :, :1].zero_()
    _fold(dz[:, 1:], _flat(out)[:, :-1], dweight_hh, (alpha, beta, base_weight_hh), precision)


def _flat(t: Tensor) -> Tensor:
    """`[K, B, T, n]` as `[K, B T, n]`, in place."""
    return t.view(t.shape[0], t.shape[1] * t.shape[2], t.shape[3])


def _fold(
    dz: Tensor,
    source: Tensor,
    sink: Tensor | None,
    folded: tuple[Tensor, Tensor, Tensor | None],
    precision: str,
) -> None:
    """`sink = beta base + alpha dz^T source`."""
    if sink is not None:
        multiply(dz, source, sink, precision, turned=(True, False), folded=folded)


def _steps(
    kernel: Kernel[..., None],
    order: range,
    like: Tensor,
    operands: tuple[Tensor | None, ...],
    precision: str,
) -> None:
    """Launch the steps of a sequence in their order; like: `[K, B, T, H]`."""
    clients, batch, steps, hidden = like.shape
    samples = covering(batch, SAMPLES)
    programs = clients * -(-batch // samples) * -(-hidden // UNITS)
    given = tuple(part for operand in operands for part in strided(operand))
    meta = dict(
        UNIT=min(unit(o, hidden) for o in operands if o is not None),
        PRECISION=dot_precision(precision, like),
        BLOCK=(samples, UNITS, DEPTH[like.element_size()]),
        num_warps=WARPS,
    )
    for t in order:
        sizes = clients, t, steps, batch, hidden
        launch(kernel, programs, like, *given, *sizes, START=t == order[0], **meta)
