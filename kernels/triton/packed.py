"""`packed` in Triton: one launch gathers a mini-batch, one adds up its losses and moves on."""

from __future__ import annotations

from torch import Tensor

from ..gather import look, sizes_of
from ..packing import ByStep, Into, Packed, Tally, Tones
from .common import jit, launch, tl
from .gather import gather_lines

CLIENTS = 128  # of a program of `_advance`


def fetch(samples: Tensor, labels: Tensor, packed: Packed, into: Into, tones: Tones) -> None:
    """Each client's next mini-batch."""
    clients = len(packed.lines)
    rows, offset, flip = (
        None if table is None else table[:clients]  # as long as `look` expects: they begin there
        for table in (packed.rows, packed.offset, packed.flip)
    )
    assert rows is not None
    seen = look(samples, rows, into.x, *tones, offset, flip)
    sizes = sizes_of(samples, seen[0], seen[3])
    own = packed.count, into.count, packed.seeds, into.seeds
    beside = labels, into.y, into.y.stride(0), *own
    gather_lines(samples, rows, into.x, seen, sizes, packed.lines, beside)


def advance(tally: Tally, by_step: ByStep | None) -> None:
    """The step's losses added up, and on to the next step."""
    clients, total = len(tally.losses), tally.total
    given = tally.losses, tally.count, total, total.stride(0), tally.lines, tally.step
    turned: tuple[Tensor | int | None, ...] = (None, None, None, 0, 0, 0)
    if by_step is not None:
        tables, now = by_step.tables, by_step.now
        turned = tables, now, by_step.places, *now.shape, tables[0].numel()
    meta = dict(CLIENTS=CLIENTS, num_warps=4)
    launch(_advance, -(-clients // CLIENTS), tally.losses, *given, clients, *turned, **meta)


@jit(do_not_specialize=["total_stride", "clients", "numbers", "room", "size"])
def _advance(
    losses: tl.tensor,  # [K]
    count: tl.tensor,  # [K] int32
    total: tl.tensor,  # [2, K] float64
    total_stride: tl.tensor,
    lines: tl.tensor,  # [K] int64
    step: tl.tensor,  # [] int64
    clients: tl.tensor,
    tables: tl.tensor,  # [numbers, size] or none
    now: tl.tensor,  # [numbers, room]
    places: tl.tensor,  # [K] int64
    numbers: tl.tensor,
    room: tl.tensor,
    size: tl.tensor,
    CLIENTS: tl.constexpr,
) -> None:
    """One program for some clients; the first one counts the step."""
    k = tl.program_id(0) * CLIENTS + tl.arange(0, CLIENTS)
    mask = k < clients
    loss = tl.load(losses + k, mask, other=0.0).to(tl.float64)
    seen = tl.load(count + k, mask, other=0).to(tl.float64)
    once = total + total_stride
    tl.store(total + k, tl.load(total + k, mask, other=0.0) + loss * seen, mask)
    tl.store(once + k, tl.load(once + k, mask, other=0.0) + loss, mask)
    tl.store(lines + k, tl.load(lines + k, mask, other=0) + clients, mask)
    if tl.program_id(0) == 0:
        tl.store(step, tl.load(step) + 1)
    if tables is not None:
        place = tl.load(places + k, mask, other=0) + room
        tl.store(places + k, place, mask)
        going = mask & (place < size)
        for _ in range(numbers):
            tl.store(now + k, tl.load(tables + place, going, other=0.0), going)
            tables += size
            now += room
