"""`gather`: batches of bytes, normalised, cropped and mirrored, against what torch users write.

One thread, thread time, minima of alternated turns: a batch is small beside the step it feeds, so
that what counts is the work itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from fedfast.kernels import gather
from result_files import append, stamp
from torch import Tensor

K, B, N, PAD, TURNS = 10, 50, 5000, 4, 30
SHAPES = {"cifar": (3, 32, 32), "mnist": (1, 28, 28)}


def cut(images: Tensor, offset: Tensor, flip: Tensor) -> Tensor:
    """Image by image, as transforms on a Dataset do. images [n, C, H, W] normalised."""
    height, width = images.shape[2:]
    wide, made = F.pad(images, [PAD] * 4), []
    for image, (down, right), mirrored in zip(wide, offset.tolist(), flip.tolist(), strict=True):
        down, right = PAD + down, PAD + right
        window = image[:, down : down + height, right : right + width]
        made.append(window.flip(2) if mirrored else window)
    return torch.stack(made)


def contestants(shape: tuple[int, ...]) -> dict[str, Callable[[], Any]]:
    """Ours and torch's, by what they do."""
    bank = torch.randint(256, (N, *shape), dtype=torch.uint8)
    rows, floats, out = torch.randint(N, (K, B)), bank.float(), torch.empty(K, B, *shape)
    scale, shift = torch.rand(2, shape[0]) + 0.1
    mean, std = torch.rand(2, shape[0], 1, 1) + 0.1
    offset = torch.randint(-PAD, PAD + 1, (K, B, 2), dtype=torch.int32)
    flip, tone = torch.rand(K, B) > 0.5, dict(scale=scale, shift=shift, margin=torch.zeros(1))

    def normalised() -> Tensor:
        return (bank[rows].float() / 255 - mean) / std

    return {
        "floats": lambda: gather(floats, rows, out=out),
        "bytes": lambda: gather(bank, rows, **tone, out=out),
        "crop": lambda: gather(bank, rows, **tone, offset=offset, flip=flip, out=out),
        "torch_floats": lambda: floats[rows],
        "torch_bytes": normalised,
        "torch_crop": lambda: [
            cut(x, o, f) for x, o, f in zip(normalised(), offset, flip, strict=True)
        ],
    }


@pytest.mark.parametrize("name", SHAPES)
def test_gather(name: str) -> None:
    before, rivals = torch.get_num_threads(), contestants(SHAPES[name])
    best = dict.fromkeys(rivals, float("inf"))
    torch.set_num_threads(1)
    try:
        for _ in range(TURNS):
            for rival, action in rivals.items():
                start = time.thread_time()
                action()
                best[rival] = min(best[rival], time.thread_time() - start)
    finally:
        torch.set_num_threads(before)
    record(name, best)
    told = (f"{n} {best[n] * 1e3:.2f} ({best['torch_' + n] * 1e3:.2f})" for n in list(best)[:3])
    print(f"\n{name}, {K} x {B} images, ms (torch): {', '.join(told)}")


def record(name: str, best: dict[str, float]) -> None:
    """Append a row to gather.csv."""
    figures = {
        "images": name,
        "clients": K,
        "batch": B,
        **{f"{rival}_ms": round(seconds * 1e3, 3) for rival, seconds in best.items()},
    }
    append("gather", stamp(1) | figures)
