"""Items of a data set, one after the other, as one tensor: pictures of Pillow, arrays, tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor

from .protocols import Picture
from .size_limits import check_pixels
from .tensors import as_dense

GREY = ("1", "L", "LA")
DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")


def is_picture(value: object) -> TypeGuard[Picture]:
    """Whether it is an image of Pillow, by its attributes: Pillow need not be installed."""
    return all(hasattr(value, name) for name in ("mode", "size", "convert", "getpixel"))


def picture(image: Picture, name: str) -> Tensor:
    """A picture as bytes, [1, H, W] if it is grey, else [3, H, W]. ValueError for 16 bits."""
    if image.mode in DEEP:
        raise ValueError(f"{name}: expected 8 bits per channel; got a picture of mode {image.mode}")
    check_pixels(name, *image.size)
    if image.mode in GREY:
        return torch.from_numpy(np.array(image.convert("L"), dtype=np.uint8))[None]
    pixels = np.array(image.convert("RGB"), dtype=np.uint8)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def own_tensor(value: object, name: str) -> Tensor:
    """An item as a tensor of its own: a data set may return one buffer again and again."""
    return picture(value, name) if is_picture(value) else as_dense(value, name).clone()


def stack(values: Iterable[tuple[str, object]]) -> Tensor:
    """Named inputs, all pictures or all tensors and arrays of one shape, as one tensor [n, ...].

    Grey pictures among coloured ones become coloured. Raises TypeError/ValueError with the name of
    the first that does not fit.
    """
    names, made, pictures = [], [], []
    for name, value in values:
        pictures.append(is_picture(value))
        made.append(own_tensor(value, name))
        names.append(name)
    if any(pictures) and len({len(x) for x in made if x.ndim == 3}) > 1:
        made = [x.expand(3, -1, -1) if p else x for x, p in zip(made, pictures, strict=True)]
    for name, x in zip(names, made, strict=True):
        if x.shape != made[0].shape:
            raise ValueError(
                f"{name}: expected the shape of item 0, {list(made[0].shape)}; got {list(x.shape)}"
            )
        if x.dtype != made[0].dtype:
            raise TypeError(f"{name}: expected {made[0].dtype} as item 0; got {x.dtype}")
    return torch.stack(made)


def label(name: str, value: object) -> int:
    """One class label. TypeError for anything but an integer, ValueError beyond 64 bits."""
    found: object = value
    if isinstance(value, (Tensor, np.ndarray)):
        number = as_dense(value, name)
        found = number.item() if number.numel() == 1 else None
    if isinstance(found, bool) or not isinstance(found, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer class label; got {value!r:.60}")
    if not -(1 << 63) <= int(found) < 1 << 63:
        raise ValueError(f"{name}: expected a class label of 64 bits; got {found}")
    return int(found)
