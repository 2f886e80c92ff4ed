"""`embedding` and its backward in Triton: rows copied; gradients gathered word by word.

A word's gradient is the sum over the client's tokens, added in their order by the one program that
owns the word: a product of zeros and ones with dout, over those blocks of tokens in which one of
the program's words occurs. Nothing is atomic.
"""

from __future__ import annotations

from torch import Tensor

from .common import jit, launch, tl
from .tiles import covering, dot, fold, multiple, tile, unit

COPIED = (16, 64)  # tokens, elements
WORDS, TOKENS = 32, 16  # of a gradient's tile: with more tokens half of the warps would fit
SIDES, WARPS = (16, 32), 4  # elements of it: the first that covers, or the last


def embedding(token: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    """`embedding` in Triton; the vector of a token out of range is NaN."""
    clients, words, size = weight.shape
    tokens = token[:1].numel()
    launch(
        _copy_rows,
        clients * -(-tokens // COPIED[0]),
        out,
        *(token, weight, weight.stride(0), out, out.stride(0), clients, tokens, words, size),
        UNIT=min(unit(weight, size), unit(out, size)),
        TILE=COPIED,
        num_warps=WARPS,
    )
    return out


def embedding_backward(
    token: Tensor,
    dout: Tensor,
    padding: int,
    dweight: Tensor,
    alpha: Tensor,
    beta: Tensor,
    base_weight: Tensor,
) -> None:
    """`embedding_backward` in Triton; tokens out of range add nothing."""
    clients, words, size = dweight.shape
    columns = covering(size, SIDES)
    launch(
        _gather_words,
        clients * -(-words // WORDS) * -(-size // columns),
        dweight,
        *(
            token,
            dout,
            dout.stride(0),
            dweight,
            dweight.stride(0),
            base_weight,
            base_weight.stride(0),
        ),
        *(alpha, beta, clients, token[:1].numel(), words, size, padding),
        UNIT=min(unit(t, size) for t in (dout, dweight, base_weight)),
        BLOCK=(WORDS, TOKENS, columns),
        num_warps=WARPS,
    )


@jit(do_not_specialize=["clients"])
def _copy_rows(
    token: tl.tensor,  # [K, tokens] int64
    weight: tl.tensor,  # [K, V, E]
    weight_stride: tl.tensor,
    out: tl.tensor,  # [K, tokens, E]
    out_stride: tl.tensor,
    clients: tl.tensor,
    tokens: tl.tensor,
    words: tl.tensor,
    size: tl.tensor,
    UNIT: tl.constexpr,
    TILE: tl.constexpr,  # tokens, elements
) -> None:
    """One program per client and block of tokens."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    place = tl.program_id(0) // clients * TILE[0] + tl.arange(0, TILE[0])
    word = tl.load(token + k * tokens + place, place < tokens, other=0)
    known = ((word >= 0) & (word < words))[:, None]
    width = multiple(size, UNIT)
    weight += k * multiple(weight_stride, UNIT)
    out += k * multiple(out_stride, UNIT)
    for start in range(0, width, TILE[1]):
        e = start + tl.arange(0, TILE[1])[None, :]
        mask = (place[:, None] < tokens) & (e < width)
        row = tl.load(weight + word[:, None] * width + e, mask & known, other=float("nan"))
        tl.store(out + place[:, None] * width + e, row, mask)


@jit(do_not_specialize=["clients", "padding"])
def _gather_words(
    token: tl.tensor,  # [K, tokens] int64
    dout: tl.tensor,  # [K, tokens, E]
    dout_stride: tl.tensor,
    dweight: tl.tensor,  # [K, V, E]
    dweight_stride: tl.tensor,
    base: tl.tensor,  # [K, V, E]
    base_stride: tl.tensor,
    alpha: tl.tensor,  # [K]
    beta: tl.tensor,  # [K]
    clients: tl.tensor,
    tokens: tl.tensor,
    words: tl.tensor,
    size: tl.tensor,
    padding: tl.tensor,
    UNIT: tl.constexpr,
    BLOCK: tl.constexpr,  # words, tokens, elements
) -> None:
    """`beta base + alpha sum of dout` of one client's words and elements, over all tokens."""
    k = (tl.program_id(0) % clients).to(tl.int64)
    place = tl.program_id(0) // clients
    down = tl.cdiv(words, BLOCK[0])
    word = (place % down * BLOCK[0] + tl.arange(0, BLOCK[0]))[:, None]
    e = (place // down * BLOCK[2] + tl.arange(0, BLOCK[2]))[None, :]
    width = multiple(size, UNIT)
    dout += k * multiple(dout_stride, UNIT)
    total = tl.zeros((BLOCK[0], BLOCK[2]), dout.dtype.element_ty)
    for start in range(0, tokens, BLOCK[1]):
        t = start + tl.arange(0, BLOCK[1])
        words_here = tl.load(token + k * tokens + t, t < tokens, other=-1)
        own = ((words_here[None, :] == word) & (word != padding)).to(dout.dtype.element_ty)
        if tl.max(tl.max(own, axis=1), axis=0) > 0:
            given = tile(dout, t[:, None], e, tokens, size, UNIT)
            total = dot(own, given, total, "ieee")
    mask = (word < words) & (e < width)
    offset = word * width + e
    here = base + k * multiple(base_stride, UNIT) + offset
    total = fold(total, here, mask, tl.load(alpha + k), tl.load(beta + k))
    tl.store(dweight + k * multiple(dweight_stride, UNIT) + offset, total, mask)
