"""`adam` in Triton: a program per client and block of columns."""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, tl

BLOCK, WARPS = 2048, 8


def adam(
    w: Tensor,
    g: Tensor,
    m: Tensor,
    v: Tensor,
    t: Tensor,
    eta: Tensor,
    weight_decay: Tensor,
    beta1: float,
    beta2: float,
    eps: float,
    decoupled: bool,
    out: Tensor,
) -> Tensor:
    clients, size = out.shape
    first, second = (1 - beta ** t.double() for beta in (beta1, beta2))
    rate, unroot = (eta / first).to(w.dtype), (1 / second.sqrt()).to(w.dtype)
    numbers = beta1, 1 - beta1, beta2, 1 - beta2, eps
    rows = [given for bank in (w, g, m, v, out) for given in (bank, bank.stride(0))]
    scalars = rate, unroot, eta, weight_decay, *numbers, clients, size
    programs = clients * -(-size // BLOCK)
    meta = dict(DECOUPLED=decoupled, BLOCK=BLOCK, num_warps=WARPS)
    launch(_adam, programs, out, *rows, *scalars, **meta)
    return out


@jit(do_not_specialize=["clients"])
def _adam(
    w: tl.tensor,  # [K, S]
    w_stride: tl.tensor,
    g: tl.tensor,  # [K, S]
    g_stride: tl.tensor,
    m: tl.tensor,  # [K, S]
    m_stride: tl.tensor,
    v: tl.tensor,  # [K, S]
    v_stride: tl.tensor,
    out: tl.tensor,  # [K, S]
    out_stride: tl.tensor,
    rate: tl.tensor,  # [K]
    unroot: tl.tensor,  # [K]
    eta: tl.tensor,  # [K]
    weight_decay: tl.tensor,  # [K]
    beta1: tl.float64,
    rest1: tl.float64,  # 1 - beta1
    beta2: tl.float64,
    rest2: tl.float64,
    eps: tl.float64,
    clients: tl.tensor,
    size: tl.tensor,
    DECOUPLED: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """One program per client and block of columns."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    cols = tl.program_id(0) // clients * BLOCK + tl.arange(0, BLOCK)
    mask = cols < size
    here = tl.load(w + k * w_stride + cols, mask, other=0.0)
    d = tl.load(g + k * g_stride + cols, mask, other=0.0)
    decay = tl.load(weight_decay + k)
    if DECOUPLED:
        start = (1.0 - tl.load(eta + k) * decay) * here
    else:
        start = here
        d += decay * here
    own = w.dtype.element_ty
    old = tl.load(m + k * m_stride + cols, mask, other=0.0)
    first = tl.full((), beta1, own) * old + tl.full((), rest1, own) * d
    tl.store(m + k * m_stride + cols, first, mask)
    old = tl.load(v + k * v_stride + cols, mask, other=0.0)
    second = tl.full((), beta2, own) * old + tl.full((), rest2, own) * d * d
    tl.store(v + k * v_stride + cols, second, mask)
    length = tl.sqrt(second) * tl.load(unroot + k) + tl.full((), eps, own)
    tl.store(out + k * out_stride + cols, start - tl.load(rate + k) * first / length, mask)
