"""The kernels of one step of `lstm`, forward and backward: some samples and units of a client."""

from __future__ import annotations

from .common import jit, tl
from .functions import sigmoid, tanh
from .tiles import dot, multiple, tile


@jit
def _place(clients: tl.tensor, batch: tl.tensor, BLOCK: tl.constexpr) -> tuple[tl.tensor, ...]:
    """The program's client, its samples `[b, 1]` and its units `[1, u]`."""
    place = tl.program_id(0) // clients
    down = tl.cdiv(batch, BLOCK[0])
    b = place % down * BLOCK[0] + tl.arange(0, BLOCK[0])
    u = place // down * BLOCK[1] + tl.arange(0, BLOCK[1])
    return (tl.program_id(0) % clients).to(tl.int64), b[:, None], u[None, :]


@jit
def _sum(
    z: tl.tensor,
    given: tl.tensor,
    bias_ih: tl.tensor,
    bias_hh: tl.tensor,
    at: tl.tensor,
    mask: tl.tensor,
) -> tl.tensor:
    """What goes into a gate: z, the product with x, and both biases (pointers) or none."""
    z += tl.load(given + at, mask, other=0.0)
    if bias_ih is not None:
        z += tl.load(bias_ih + at, mask, other=0.0) + tl.load(bias_hh + at, mask, other=0.0)
    return z


@jit(do_not_specialize=["clients", "t"])
def step_forward(
    gates: tl.tensor,  # [K, B, T, 4H]: x W_ih^T at step t, becomes i, f, g, o
    gates_stride: tl.tensor,
    cells: tl.tensor,  # [K, B, T, H]
    cells_stride: tl.tensor,
    out: tl.tensor,  # [K, B, T, H]
    out_stride: tl.tensor,
    weight: tl.tensor,  # [K, 4H, H]
    weight_stride: tl.tensor,
    bias_ih: tl.tensor,  # [K, 4H] or None
    bias_ih_stride: tl.tensor,
    bias_hh: tl.tensor,  # [K, 4H] or None
    bias_hh_stride: tl.tensor,
    clients: tl.tensor,
    t: tl.tensor,
    steps: tl.tensor,
    batch: tl.tensor,
    hidden: tl.tensor,
    START: tl.constexpr,  # t is 0: nothing comes from before
    UNIT: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,  # samples, units, depth of a piece of the products
) -> None:
    """Gates, cell and h of step t, from h and cell of the step before."""
    k, b, u = _place(clients, batch, BLOCK)
    H = multiple(hidden, UNIT)
    row = b * steps + t
    gates += k * multiple(gates_stride, UNIT) + row * (4 * H)
    cells += k * multiple(cells_stride, UNIT)
    out += k * multiple(out_stride, UNIT)
    weight += k * multiple(weight_stride, UNIT)
    if bias_ih is not None:
        bias_ih += k * multiple(bias_ih_stride, UNIT)
        bias_hh += k * multiple(bias_hh_stride, UNIT)
    i = tl.zeros((BLOCK[0], BLOCK[1]), out.dtype.element_ty)
    f, g, o = i, i, i
    if not START:
        for start in range(0, H, BLOCK[2]):
            r = start + tl.arange(0, BLOCK[2])
            h = tile(out, row - 1, r[None, :], batch * steps, H, UNIT)
            d = r[:, None]
            i = dot(h, tile(weight, u, d, 4 * H, H, UNIT), i, PRECISION)
            f = dot(h, tile(weight, H + u, d, 4 * H, H, UNIT), f, PRECISION)
            g = dot(h, tile(weight, 2 * H + u, d, 4 * H, H, UNIT), g, PRECISION)
            o = dot(h, tile(weight, 3 * H + u, d, 4 * H, H, UNIT), o, PRECISION)
    mask = (b < batch) & (u < H)
    i = sigmoid(_sum(i, gates, bias_ih, bias_hh, u, mask))
    f = sigmoid(_sum(f, gates, bias_ih, bias_hh, H + u, mask))
    g = tanh(_sum(g, gates, bias_ih, bias_hh, 2 * H + u, mask))
    o = sigmoid(_sum(o, gates, bias_ih, bias_hh, 3 * H + u, mask))
    c = i * g
    if not START:
        c = f * tl.load(cells + (row - 1) * H + u, mask, other=0.0) + c
    tl.store(gates + u, i, mask)
    tl.store(gates + H + u, f, mask)
    tl.store(gates + 2 * H + u, g, mask)
    tl.store(gates + 3 * H + u, o, mask)
    tl.store(cells + row * H + u, c, mask)
    tl.store(out + row * H + u, o * tanh(c), mask)


@jit(do_not_specialize=["clients", "t"])
def step_backward(
    gates: tl.tensor,  # [K, B, T, 4H]: i, f, g, o, becomes the gradient before the activations
    gates_stride: tl.tensor,
    cells: tl.tensor,  # [K, B, T, H]; step t becomes f dc, which is dc's share for the step before
    cells_stride: tl.tensor,
    dout: tl.tensor,  # [K, B, T, H]
    dout_stride: tl.tensor,
    weight: tl.tensor,  # [K, 4H, H]
    weight_stride: tl.tensor,
    clients: tl.tensor,
    t: tl.tensor,
    steps: tl.tensor,
    batch: tl.tensor,
    hidden: tl.tensor,
    START: tl.constexpr,  # t is steps - 1: nothing comes from after
    UNIT: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,  # samples, units, depth of a piece of the product
) -> None:
    """Gradients of step t, from those that the step after has left."""
    k, b, u = _place(clients, batch, BLOCK)
    H = multiple(hidden, UNIT)
    row = b * steps + t
    gates += k * multiple(gates_stride, UNIT)
    cells += k * multiple(cells_stride, UNIT) + u
    weight += k * multiple(weight_stride, UNIT)
    mask = (b < batch) & (u < H)
    dh = tl.zeros((BLOCK[0], BLOCK[1]), gates.dtype.element_ty)
    dc = dh
    if not START:
        for start in range(0, 4 * H, BLOCK[2]):
            r = start + tl.arange(0, BLOCK[2])
            dz = tile(gates, row + 1, r[None, :], batch * steps, 4 * H, UNIT)
            dh = dot(dz, tile(weight, r[:, None], u, 4 * H, H, UNIT), dh, PRECISION)
        dc = tl.load(cells + (row + 1) * H, mask, other=0.0)
    own = gates + row * (4 * H) + u
    i = tl.load(own, mask, other=0.0)
    f = tl.load(own + H, mask, other=0.0)
    g = tl.load(own + 2 * H, mask, other=0.0)
    o = tl.load(own + 3 * H, mask, other=0.0)
    bent = tanh(tl.load(cells + row * H, mask, other=0.0))
    before = tl.load(cells + (row - 1) * H, mask & (row > b * steps), other=0.0)
    dh += tl.load(dout + k * multiple(dout_stride, UNIT) + row * H + u, mask, other=0.0)
    dc += dh * o * (1.0 - bent * bent)
    tl.store(own, dc * g * i * (1.0 - i), mask)
    tl.store(own + H, dc * before * f * (1.0 - f), mask)
    tl.store(own + 2 * H, dc * i * (1.0 - g * g), mask)
    tl.store(own + 3 * H, dh * bent * o * (1.0 - o), mask)
    tl.store(cells + row * H, dc * f, mask)
