"""Preprocessing of images: `Normalize`, always, and `Augment`, in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from .._messages import format_value
from .._renamed_modules import Alias
from .pages import file_of


def _finite(value: object) -> bool:
    whole = isinstance(value, int) and value.bit_length() < 1024 and not isinstance(value, bool)
    return whole or (isinstance(value, float) and isfinite(value))


@dataclass(frozen=True)
class Normalize:
    """`(v / 255 - mean[c]) / std[c]` of a byte v in channel c, computed as `scale v + shift`.

    mean, std  one number per channel, or one for all
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            given = getattr(self, name)
            if not isinstance(given, Sequence) or not given or not all(map(_finite, given)):
                raise ValueError(
                    f"{name}: expected finite numbers, one per channel; got {format_value(given)}"
                )
            object.__setattr__(self, name, tuple(float(value) for value in given))
        if len(self.mean) != len(self.std):
            raise ValueError(f"std: expected {len(self.mean)} numbers as mean; got {len(self.std)}")
        if min(self.std) <= 0:
            raise ValueError(f"std: expected numbers > 0; got {format_value(self.std)}")

    def scale_and_shift(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """(scale, shift), each `[C]` or `[1]`, rounded once from float64."""
        mean = torch.tensor(self.mean, dtype=torch.float64)
        std = torch.tensor(self.std, dtype=torch.float64)
        return (1 / (255 * std)).to(device, dtype), (-mean / std).to(device, dtype)

    tones = Alias("scale_and_shift")

    def __call__(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Images `[n, C, ...]` of bytes as floats: the bits that `kernels.gather` makes of them."""
        scale, shift = (
            t.view(-1, *[1] * (x.ndim - 2)) for t in self.scale_and_shift(dtype, x.device)
        )
        return x * scale + shift

    def check(self, name: str, x: Tensor) -> None:
        """Raise ValueError unless `x` `[n, C, ...]` holds bytes in as many channels."""
        if x.dtype != torch.uint8 or len(self.mean) not in (1, x.shape[1]):
            raise ValueError(
                f"{name}: normalization by {len(self.mean)} channels needs uint8 "
                f"[n, {len(self.mean)}, ...]; got {x.dtype} {list(x.shape)}"
            )


@dataclass(frozen=True)
class Augment:
    """Random crop and mirror image of a training image, drawn for each image of each local step.

    pad          crop at the image's own size from the image with `pad` pixels around it; 0: none
    flip         mirrored left to right with chance 1/2
    per_batch    one draw for all images of a local step (the FedGloSS code)
    crop_chance  images that are cropped at all
    black        the padding is zero before normalisation; False: after it (FL-Simulator)
    """

    pad: int = 4
    flip: bool = True
    per_batch: bool = False
    crop_chance: float = 1.0
    black: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.pad, bool) or not isinstance(self.pad, int) or not 0 <= self.pad < 1024:
            raise ValueError(f"pad: expected pixels, 0 <= pad < 1024; got {format_value(self.pad)}")
        if not _finite(self.crop_chance) or not 0 <= self.crop_chance <= 1:
            raise ValueError(
                f"crop_chance: expected a chance in [0, 1]; got {format_value(self.crop_chance)}"
            )


AUGMENTS = {
    "crop-flip": Augment(),
    "crop-flip-batch": Augment(per_batch=True),
    "crop-flip-half": Augment(crop_chance=0.5, black=False),
}


def as_inputs(x: Tensor, normalize: Normalize | None, dtype: torch.dtype) -> Tensor:
    """What a model is given: floats as `dtype`, bytes normalised (None: / 255), tokens as are."""
    if x.dtype == torch.uint8:
        return (normalize or Normalize())(x, dtype)
    return x.to(dtype) if x.is_floating_point() else x


def stored(x: Tensor, device: torch.device | str, dtype: torch.dtype) -> Tensor:
    """`x` on the device, contiguous: floats as `dtype`, bytes and tokens as they are.

    Raises ValueError where a finite value would become infinite in `dtype`.
    """
    x = x.resolve_neg().contiguous()  # the data may have been made without `as_samples`
    if not x.is_floating_point() or x.dtype == dtype:
        return x.to(device)
    if file_of(x) is not None:
        raise ValueError(
            f"x: expected {dtype}, for samples in a mapped file are not converted; got {x.dtype}"
        )
    made = x.to(device, dtype)
    # A sum is finite only if all its terms are, and much cheaper.
    if not bool(made.sum().isfinite()) and bool((made.isinf() & x.to(device).isfinite()).any()):
        largest = float(x.abs().max())
        raise ValueError(f"x: expected values that {dtype} can hold; got {largest:.4g}")
    return made
