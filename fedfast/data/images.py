"""Folders of image files: Tiny-ImageNet, and any data set with one folder per class."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from .dataset import Data
from .image_listing import Listing
from .registries import READERS
from .samples import Samples
from .size_limits import check_memory, check_pixels, read_whole
from .stacking import DEEP, GREY
from .transform import Normalize

if TYPE_CHECKING:
    from PIL.Image import Image

TINY = "tiny-imagenet-200"
TINY_SIZES = (200, 500, 10_000)  # classes, images of each to train, images to test
CENTRED = Normalize((0.5,), (0.5,))  # FedFSA


@READERS.register("tiny-imagenet")
def tiny_imagenet(name: str, root: Path) -> Data:
    """Tiny-ImageNet: 200 classes of 500 images to train, its validation part to test.

    Classes are numbered in the order of wnids.txt.
    """
    places = [root / TINY, root / name, root]
    top = next((place for place in places if (place / "wnids.txt").is_file()), None)
    if top is None:
        looked = ", ".join(str(place / "wnids.txt") for place in places)
        raise FileNotFoundError(f"root: data set {name!r} needs wnids.txt; found none of {looked}")
    classes = _lines(top / "wnids.txt")
    if len(set(classes)) != TINY_SIZES[0]:
        raise ValueError(
            f"{top / 'wnids.txt'}: expected {TINY_SIZES[0]} classes; found {len(set(classes))}"
        )
    listing = Listing()
    train = [
        (path, label)
        for label, wnid in enumerate(classes)
        for path in _counted(listing, top / "train" / wnid / "images")
    ]
    listing.warn(top)
    test = _annotated(top / "val", {wnid: label for label, wnid in enumerate(classes)})
    parts = [_read(part, CENTRED, "RGB", (64, 64)) for part in (train, test)]
    return Data(parts[0], parts[1], name, len(classes))


@READERS.register("folder")
def folder(name: str, root: Path) -> Data:
    """root/train/<class>/** and root/test/<class>/** (or val): classes in the order of their names.

    Files are those of torchvision's ImageFolder: see `Listing`. All images must be of one size;
    grey ones stay grey where all are. One warning names what was skipped.
    """
    tests = [root / part for part in ("test", "val") if (root / part).is_dir()]
    if not (root / "train").is_dir() or not tests:
        raise FileNotFoundError(f"root: expected folders train and test (or val) in {root}")
    listing = Listing()
    listing.skip(tests[1:])
    train, test = (listing.classes(top) for top in (root / "train", tests[0]))
    classes = sorted(train)
    if not classes or not test.keys() <= train.keys():
        found = sorted(test.keys() - train.keys()) or "none"
        raise ValueError(f"{tests[0]}: expected classes among {classes or 'some'}; found {found}")
    listed = [
        [(path, i) for i, c in enumerate(classes) for path in part.get(c, [])]
        for part in (train, test)
    ]
    listing.warn(root)
    first = listed[0][0][0]
    size = _head(first).size
    # All sizes are compared before memory for so many of the first one's size is allocated.
    modes = [_head(path, size, f" as {first}").mode for part in listed for path, _ in part]
    grey = all(mode in GREY for mode in modes)
    parts = [_read(part, Normalize(), "L" if grey else "RGB", size) for part in listed]
    return Data(parts[0], parts[1], name, len(classes))


def _counted(listing: Listing, place: Path) -> list[Path]:
    """The images of one class of Tiny-ImageNet: all of them, or an error."""
    found = listing.images(place) if place.is_dir() else []
    if len(found) != TINY_SIZES[1]:
        raise ValueError(f"{place}: expected {TINY_SIZES[1]} images; found {len(found)}")
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text; found {error.reason}") from error


def _annotated(place: Path, labels: dict[str, int]) -> list[tuple[Path, int]]:
    """(image, label) of val_annotations.txt: file name and class in the first two columns."""
    path = place / "val_annotations.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text; found {error.reason}") from error
    listed = []
    for number, line in enumerate(lines, 1):
        columns = line.split("\t")
        odd = Path(columns[0]).name != columns[0] or "\0" in columns[0]
        if len(columns) < 2 or columns[1] not in labels or odd:
            raise ValueError(f"{path}:{number}: expected image and class; found {line!r}")
        listed.append((place / "images" / columns[0], labels[columns[1]]))
    if len({image for image, _ in listed}) != TINY_SIZES[2]:
        raise ValueError(f"{path}: expected {TINY_SIZES[2]} images; found {len(listed)}")
    return listed


def _head(path: Path, size: tuple[int, int] | None = None, like: str = "") -> Image:
    """The image in `path`, its pixels still to be loaded; one of another `size` is refused."""
    try:
        from PIL.Image import open as open_image
    except ImportError as error:
        raise ImportError("image folders need Pillow: pip install fedfast[images]") from error
    # Read whole: a damaged length inside cannot make Pillow read past the end.
    raw = io.BytesIO(read_whole(path))
    with _damage(path), warnings.catch_warnings():
        # Too many pixels are an error below; other warnings of Pillow are no reason to stop.
        warnings.simplefilter("ignore")
        image = open_image(raw)
    check_pixels(str(path), *image.size)
    if image.mode in DEEP:
        raise ValueError(f"{path}: expected 8 bits per channel; found mode {image.mode}")
    if size not in (None, image.size):
        wanted = f"{size[0]} x {size[1]} pixels{like}"
        raise ValueError(f"{path}: expected {wanted}; found {image.size}")
    return image


def _pixels(path: Path, size: tuple[int, int], mode: str) -> np.ndarray:
    """[H, W] or [H, W, 3] bytes, converted as torchvision does: alpha and EXIF turns are left."""
    image = _head(path, size)
    with _damage(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image.load()
        return np.asarray(image.convert(mode))


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Pillow's decoders raise many kinds of errors for damaged files: here they become one."""
    try:
        yield
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}: expected an image; found {found}") from error


def _read(
    listed: Sequence[tuple[Path, int]], normalize: Normalize, mode: str, size: tuple[int, int]
) -> Samples:
    """All images as bytes [n, C, H, W]. size: (width, height)."""
    if not listed:
        raise ValueError("root: expected images in both parts; found none in one")
    channels = 1 if mode == "L" else 3
    check_memory(str(listed[0][0].parent), len(listed) * channels * size[0] * size[1])
    x = np.empty((len(listed), channels, size[1], size[0]), dtype=np.uint8)
    for i, (path, _) in enumerate(listed):
        pixels = _pixels(path, size, mode)
        x[i] = pixels if mode == "L" else pixels.transpose(2, 0, 1)
    y = torch.tensor([label for _, label in listed], dtype=torch.int64)
    return Samples(torch.from_numpy(x), y, normalize)
