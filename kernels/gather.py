"""`gather`: K clients' mini-batches out of one bank of samples.

    out[k, b] = bank[rows[k, b]]                                          any dtype, as it is
    out[k, b, c, y, x] = scale[c] v[c, y + oy, x' + ox] + shift[c]        v = bank[rows[k, b]] uint8

with (oy, ox) = offset[k, b], x' = W - 1 - x where flip[k, b], else x, and margin[c] outside of the
image: a random crop of a padded image is an offset within the padding. Bytes stay bytes in the
bank, and normalisation, (v / 255 - mean) / std, is one product and one sum on the way out.

Bytes per element of a sample (f = element size): reads f (1 from uint8), writes f.
Deterministic: element-wise; product and sum are rounded one after the other in every backend.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._blocks import integers
from ._scalars import kind_of
from .declaration import In, Made, Out
from .operation import operation

FLOAT = torch.float32
DTYPES = (torch.float32, torch.float64)  # of the compiled operations and of Triton's


OUT_OF_RANGE = "rows: expected rows of the bank, in [0, {N}); one is not"


def _dense(name: str, bank: object) -> Tensor:
    if not isinstance(bank, Tensor):
        raise TypeError(f"{name}: expected a tensor; got {kind_of(bank)}")
    if not bank.is_contiguous():
        raise ValueError(f"{name}: expected a contiguous tensor; got strides {bank.stride()}")
    return bank


def _table(name: str, rows: object, bank: Tensor) -> Tensor:
    if not isinstance(rows, Tensor):
        raise TypeError(f"{name}: expected a tensor [K, B]; got {kind_of(rows)}")
    if rows.ndim != 2:
        raise ValueError(f"{name}: expected a tensor [K, B]; got shape {list(rows.shape)}")
    return integers(name, rows, rows.shape, torch.int64, bank)


def served(scale: Tensor | None, out: Tensor) -> Tensor:
    """Copies of any dtype are served; where numbers are made, their dtype must be a backend's."""
    return out if scale is not None or out.dtype in DTYPES else out.new_empty(0, dtype=FLOAT)


def _out(name: str, out: object, bank: Tensor, rows: Tensor) -> Tensor:
    shape = (*rows.shape, *bank.shape[1:])
    grey = bank.dtype == torch.uint8
    if out is None:
        return bank.new_empty(shape, dtype=FLOAT if grey else bank.dtype)
    if not isinstance(out, Tensor):
        raise TypeError(f"out: expected a tensor; got {kind_of(out)}")
    if out.dtype != bank.dtype and not (grey and out.dtype.is_floating_point):
        wanted = "a floating dtype" if grey else f"dtype {bank.dtype}"
        raise TypeError(f"out: expected {wanted}; got {out.dtype}")
    if out.shape != shape:
        raise ValueError(f"out: expected shape {list(shape)}; got {list(out.shape)}")
    if out.device != bank.device:
        raise ValueError(f"out: expected device {bank.device}; got {out.device}")
    if rows.shape[0] and not out[0].is_contiguous():
        raise ValueError(
            f"out: expected each client's part to be contiguous; got strides {out.stride()}"
        )
    if rows.shape[0] > 1 and out.stride(0) == 0:
        raise ValueError("out: expected memory for each client; got client stride 0")
    return out


Look = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor | None]


def look(
    bank: Tensor,
    rows: Tensor,
    out: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    margin: Tensor | None,
    offset: Tensor | None,
    flip: Tensor | None,
) -> Look:
    """What a byte becomes: scale, shift, margin, offset, flip; None where samples are copied."""
    tones = dict(scale=scale, shift=shift, margin=margin)
    given = [name for name, t in {**tones, "offset": offset, "flip": flip}.items() if t is not None]
    if bank.dtype != torch.uint8 or not out.dtype.is_floating_point:
        if given:
            raise ValueError(
                f"{given[0]}: expected a uint8 bank and a floating out; got {bank.dtype} "
                f"{list(bank.shape)} and {out.dtype}"
            )
        return None, None, None, None, None
    if (scale is None) != (shift is None):
        raise ValueError("scale, shift: expected both or neither")
    moves = offset is not None or flip is not None
    wide = moves or any(t is not None and t.numel() > 1 for t in tones.values())
    channels = bank.shape[1] if wide else 1
    scale = _tone("scale", scale, 1 / 255, channels, out)
    shift = _tone("shift", shift, 0.0, channels, out)
    margin = shift if margin is None else _tone("margin", margin, 0, channels, out)
    return scale, shift, margin, *(_moves(bank, rows, offset, flip) if moves else (None, None))


def sizes_of(bank: Tensor, scale: Tensor | None, offset: Tensor | None) -> tuple[int, int, int]:
    """(channels, height, width) of a sample; one row of pixels where it is seen as it is."""
    if offset is not None:
        return bank.shape[1], bank.shape[2], bank.shape[3]
    channels = 1 if scale is None else scale.shape[0]
    return channels, 1, bank.shape[1:].numel() // channels


def _tone(name: str, value: Tensor | None, default: float, channels: int, out: Tensor) -> Tensor:
    if value is None:
        return torch.full((channels,), default, dtype=out.dtype, device=out.device)
    if value.shape not in ((1,), (channels,)):
        raise ValueError(f"{name}: expected shape [{channels}] or [1]; got {list(value.shape)}")
    return value.to(out.device, out.dtype).expand(channels).contiguous()


def _moves(
    bank: Tensor, rows: Tensor, offset: Tensor | None, flip: Tensor | None
) -> tuple[Tensor, Tensor]:
    if bank.ndim != 4:
        raise ValueError(
            f"offset, flip: expected a bank of images [n, C, H, W]; got {list(bank.shape)}"
        )
    if offset is None:
        offset = torch.zeros(*rows.shape, 2, dtype=torch.int32, device=bank.device)
    if flip is None:
        flip = torch.zeros(rows.shape, dtype=torch.uint8, device=bank.device)
    flip = flip.view(torch.uint8) if flip.dtype == torch.bool else flip
    return (
        integers("offset", offset, (*rows.shape, 2), torch.int32, bank),
        integers("flip", flip, rows.shape, torch.uint8, bank),
    )


@operation(
    In("bank", "N ...", check=_dense),
    In("rows", "K B", torch.int64, check=_table, using="bank"),
    Out("out", "K B ...", check=_out, using="bank rows"),
    Made(
        "scale shift margin offset flip",
        check=look,
        using="bank rows out scale shift margin offset flip",
        passed=False,
    ),
    In("scale", "C", optional=True, ready=True),
    In("shift", "C", optional=True, ready=True),
    In("margin", "C", optional=True, ready=True),
    In("offset", "K B 2", torch.int32, optional=True, ready=True),
    In("flip", "K B", torch.uint8, optional=True, ready=True),
    Made("sizes", check=sizes_of, using="bank scale offset"),
    Made("served", check=served, using="scale out", passed=False),
    by="served",
    form="out",
    returns="out",
    out_of_range=OUT_OF_RANGE,
    moves="bank + out",
)
def gather(
    bank: Tensor,
    rows: Tensor,
    *,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    margin: Tensor | None = None,
    offset: Tensor | None = None,
    flip: Tensor | None = None,
    out: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return `out`, the samples `rows` of `bank`.

    bank          `[n, ...]` contiguous; bytes are looked at as images where out is floating
    rows          `[K, B]` int64, in [0, n)
    scale, shift  `[C]` or `[1]` of out's dtype for a uint8 bank `[n, C, ...]`; both or neither
                  (None: 1 / 255 and 0)
    margin        `[C]` or `[1]`, the value outside of the image; None: shift, which is a zero byte
    offset        `[K, B, 2]` int32 (y, x), of any size; a uint8 bank `[n, C, H, W]` only
    flip          `[K, B]` bool or uint8; likewise
    out           `[K, B, ...]` of the bank's dtype, or floating for a uint8 bank (float32 if None);
                  each client's part contiguous
    Raises TypeError/ValueError naming the argument. A row out of range raises IndexError after the
    others were written; Triton, which cannot know without waiting for the device, answers
    it with NaN (zeros where out is of integers).
    """
