"""`gather`: batches of bytes, normalised, cropped and mirrored, against what torch users write.

One thread, thread time, least of all turns: a batch is small beside the step that it feeds, so that
the work itself counts.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from alternate import Action, alternate, torch_threads
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


def actions(shape: tuple[int, ...]) -> dict[str, Action]:
    """Ours and torch's, by what they do."""
    images = torch.randint(256, (N, *shape), dtype=torch.uint8)
    rows, floats, out = torch.randint(N, (K, B)), images.float(), torch.empty(K, B, *shape)
    scale, shift = torch.rand(2, shape[0]) + 0.1
    mean, std = torch.rand(2, shape[0], 1, 1) + 0.1
    offset = torch.randint(-PAD, PAD + 1, (K, B, 2), dtype=torch.int32)
    flip, normalise = torch.rand(K, B) > 0.5, dict(scale=scale, shift=shift, margin=torch.zeros(1))

    def normalised() -> Tensor:
        return (images[rows].float() / 255 - mean) / std

    return {
        "floats": lambda: gather(floats, rows, out=out),
        "bytes": lambda: gather(images, rows, **normalise, out=out),
        "crop": lambda: gather(images, rows, **normalise, offset=offset, flip=flip, out=out),
        "torch_floats": lambda: floats[rows],
        "torch_bytes": normalised,
        "torch_crop": lambda: [
            cut(x, o, f) for x, o, f in zip(normalised(), offset, flip, strict=True)
        ],
    }


@pytest.mark.parametrize("name", SHAPES)
def test_gather(name: str) -> None:
    with torch_threads(1):
        seconds = alternate(actions(SHAPES[name]), TURNS, warm_up=0)
    best = {action: min(spent) for action, spent in seconds.items()}
    record(name, best)
    numbers = (f"{n} {best[n] * 1e3:.2f} ({best['torch_' + n] * 1e3:.2f})" for n in list(best)[:3])
    print(f"\n{name}, {K} x {B} images, ms (torch): {', '.join(numbers)}")


def record(name: str, best: dict[str, float]) -> None:
    """Append a row to gather.csv."""
    figures = {
        "images": name,
        "clients": K,
        "batch": B,
        **{f"{action}_ms": round(seconds * 1e3, 3) for action, seconds in best.items()},
    }
    append("gather", stamp(1) | figures)
