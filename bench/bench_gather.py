"""`gather`: batches of bytes, normalised, cropped and mirrored, against what torch users write.

One thread, CPU time, from the caches: a batch is small beside the step that it feeds.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from fedfast.kernels import gather
from marks import THREAD_TIME, beside
from sizes import pick
from torch import Tensor

pytestmark = THREAD_TIME
K, B, N = pick((10, 50, 5000), (2, 3, 9))
PAD, SHAPES = 4, {"cifar": (3, 32, 32), "mnist": (1, 28, 28)}


def cut(images: Tensor, offset: Tensor, flip: Tensor) -> Tensor:
    """Image by image, as transforms on a Dataset do. images [n, C, H, W] normalised."""
    height, width = images.shape[2:]
    wide, made = F.pad(images, [PAD] * 4), []
    for image, (down, right), mirrored in zip(wide, offset.tolist(), flip.tolist(), strict=True):
        down, right = PAD + down, PAD + right
        window = image[:, down : down + height, right : right + width]
        made.append(window.flip(2) if mirrored else window)
    return torch.stack(made)


def actions(shape: tuple[int, ...]) -> dict[tuple[str, str], Callable[[], object]]:
    """(contestant, form) -> what is timed."""
    images = torch.randint(256, (N, *shape), dtype=torch.uint8)
    rows, floats, out = torch.randint(N, (K, B)), images.float(), torch.empty(K, B, *shape)
    scale, shift = torch.rand(2, shape[0]) + 0.1
    mean, std = torch.rand(2, shape[0], 1, 1) + 0.1
    offset = torch.randint(-PAD, PAD + 1, (K, B, 2), dtype=torch.int32)
    flip, normalise = torch.rand(K, B) > 0.5, dict(scale=scale, shift=shift, margin=torch.zeros(1))

    def normalised() -> Tensor:
        return (images[rows].float() / 255 - mean) / std

    return {
        ("fedfast", "floats"): lambda: gather(floats, rows, out=out),
        ("fedfast", "bytes"): lambda: gather(images, rows, **normalise, out=out),
        ("fedfast", "crop"): lambda: gather(
            images, rows, **normalise, offset=offset, flip=flip, out=out
        ),
        ("torch", "floats"): lambda: floats[rows],
        ("torch", "bytes"): normalised,
        ("torch", "crop"): lambda: [
            cut(x, o, f) for x, o, f in zip(normalised(), offset, flip, strict=True)
        ],
    }


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("form", ["floats", "bytes", "crop"])
@beside("torch")
def test_gather(name: str, form: str, contestant: str, benchmark: Any) -> None:
    benchmark.group = f"gather {name} {form}"
    read = 4 if form == "floats" else 1
    benchmark.extra_info["bytes"] = K * B * prod(SHAPES[name]) * (4 + read)
    benchmark.pedantic(actions(SHAPES[name])[contestant, form], rounds=30, warmup_rounds=1)
