"""Items of a data set, one after the other, as one tensor: pictures of Pillow, arrays, tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .size_limits import check_pixels
from .tensors import plain

GREY = ("1", "L", "LA")
DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")


def is_picture(value: Any) -> bool:
    """Whether it is an image of Pillow, told by its ways: Pillow need not be there."""
    return all(hasattr(value, name) for name in ("mode", "size", "convert", "getpixel"))


def picture(image: Any, name: str) -> Tensor:
    """A picture as bytes, [1, H, W] if it is grey, else [3, H, W]. ValueError for 16 bits."""
    if image.mode in DEEP:
        raise ValueError(f"{name}: expected 8 bits per channel; got a picture of mode {image.mode}")
    check_pixels(name, *image.size)
    if image.mode in GREY:
        return torch.from_numpy(np.array(image.convert("L"), dtype=np.uint8))[None]
    pixels = np.array(image.convert("RGB"), dtype=np.uint8)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def own(value: Any, name: str) -> Tensor:
    """An item as a tensor of its own: data sets may fill one buffer again and again."""
    return picture(value, name) if is_picture(value) else plain(value, name).clone()


def stack(values: Iterable[tuple[str, Any]]) -> Tensor:
    """Named inputs, all pictures or all tensors and arrays of one shape, as one tensor [n, ...].

    Grey pictures among coloured ones become coloured. Raises TypeError/ValueError with the name of
    the first that does not fit.
    """
    names, made, pictures = [], [], []
    for name, value in values:
        pictures.append(is_picture(value))
        made.append(own(value, name))
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


def label(name: str, value: Any) -> int:
    """One class label. TypeError for anything but an integer, ValueError beyond 64 bits."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if isinstance(value, (Tensor, np.ndarray)):
        number = plain(value, name)
        whole = number.numel() == 1 and not number.is_floating_point()
        whole = whole and number.dtype != torch.bool
        value = number.item() if whole else value
    if not whole:
        raise TypeError(f"{name}: expected an integer class label; got {value!r:.60}")
    if not -(1 << 63) <= int(value) < 1 << 63:
        raise ValueError(f"{name}: expected a class label of 64 bits; got {value}")
    return int(value)
