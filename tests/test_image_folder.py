"""Folders of images against torchvision's own rules, written down here, and against Pillow."""

import os
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from fedfast.data import load

RNG = np.random.default_rng(1)
# torchvision.datasets.folder.IMG_EXTENSIONS
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".pgm": "PPM"}


def draw(path, mode="RGB", size=(5, 4), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    suffix = path.suffix.lower()
    image = Image.fromarray(pixels).convert("L" if suffix == ".pgm" else mode)
    image.save(path, FORMATS.get(suffix, suffix[1:].upper()), **options)


def listed(top):
    """(path, class) in the order of ImageFolder.make_dataset, hidden names left out."""
    names = sorted(e.name for e in os.scandir(top) if e.is_dir() and not e.name.startswith("."))
    for label, name in enumerate(names):
        for place, _, files in sorted(os.walk(os.path.join(top, name), followlinks=True)):
            if any(part.startswith(".") for part in os.path.relpath(place, top).split(os.sep)):
                continue
            for file in sorted(files):
                if file.lower().endswith(EXTENSIONS) and not file.startswith("."):
                    yield os.path.join(place, file), label


def read(top, mode="RGB"):
    paths, labels = zip(*listed(top), strict=True)
    pixels = [np.asarray(Image.open(path).convert(mode)) for path in paths]
    x = torch.from_numpy(np.stack(pixels))
    return (x[:, None] if mode == "L" else x.movedim(-1, 1)), list(labels)


def test_every_suffix_and_every_level_is_read(tmp_path):
    names = [f"train/a/1{e}" for e in EXTENSIONS] + [f"train/b/2{e.upper()}" for e in EXTENSIONS]
    deep = ["train/a/x/y/1.png", "train/a/x-y/1.png", "train/b/z/3.tif", "train/a/x/0.jpg"]
    for name in [*names, *deep, "test/b/q/1.tiff", "test/a/1.webp"]:
        draw(tmp_path / name)
    data = load("folder", tmp_path)
    for part, samples in (("train", data.train), ("test", data.test)):
        x, y = read(tmp_path / part)
        assert torch.equal(samples.x, x) and samples.y.tolist() == y
    assert len(data.train) == 2 * len(EXTENSIONS) + 4


def test_what_torchvision_reads_is_read(tmp_path):
    vision = pytest.importorskip("torchvision")
    for i, name in enumerate(("b/1.png", "b/u/2.TIF", "a/v/w/3.webp", "c/4.bmp", "c-d/0.png")):
        draw(tmp_path / "train" / name, size=(5, 4))
        draw(tmp_path / "val" / f"a/{i}.png")
    data = load("folder", tmp_path)
    theirs = vision.datasets.ImageFolder(tmp_path / "train")
    assert data.train.y.tolist() == theirs.targets and data.classes == len(theirs.classes)
    for row, (image, _) in zip(data.train.x, theirs, strict=True):
        assert np.array_equal(row.permute(1, 2, 0).numpy(), np.asarray(image))


HIDDEN = (
    "train/.ipynb_checkpoints/1.png",
    "train/a/.ipynb_checkpoints/1.png",
    "train/a/._1.png",
    "train/.DS_Store",
    "train/a/.DS_Store",
    "test/.hidden/1.png",
)


def test_hidden_and_other_files_are_skipped_and_named(tmp_path):
    for name in ("train/a/1.png", "train/b/1.png", "test/a/1.png"):
        draw(tmp_path / name)
    expected = load("folder", tmp_path)
    for name in (*HIDDEN, "train/a/notes.txt", "train/a/2.gif", "train/readme"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"Mac OS X")
    with pytest.warns(
        UserWarning, match="skipped 9 files or folders .*train/.DS_Store.*, \\.\\.\\."
    ):
        found = load("folder", tmp_path)
    assert torch.equal(found.train.x, expected.train.x) and found.classes == 2
    assert torch.equal(found.test.y, expected.test.y)


def test_nothing_skipped_is_nothing_said(tmp_path):
    for name in ("train/a/1.png", "test/a/1.png"):
        draw(tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load("folder", tmp_path)
    draw(tmp_path / "val/a/1.png")
    with pytest.warns(UserWarning, match="skipped 1 files or folders .*: val$"):
        load("folder", tmp_path)


def test_links_are_followed_but_not_in_circles(tmp_path):
    draw(tmp_path / "else/1.png")
    draw(tmp_path / "train/a/1.png")
    draw(tmp_path / "test/a/1.png")
    (tmp_path / "train/b").symlink_to(tmp_path / "else")
    (tmp_path / "train/a/again").symlink_to(tmp_path / "train" / "a")
    (tmp_path / "train/a/up").symlink_to(tmp_path / "train")
    with pytest.warns(UserWarning, match="skipped 2 "):
        data = load("folder", tmp_path)
    assert data.train.y.tolist() == [0, 1]


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGB", "RGBA", "P", "CMYK"])
def test_modes_are_those_of_pillow(tmp_path, mode):
    suffix = ".tif" if mode == "CMYK" else ".png"
    for name in ("train/a/1", "train/a/2", "train/b/1", "test/b/1"):
        draw(tmp_path / f"{name}{suffix}", mode)
    grey = mode in ("L", "1", "LA")
    data = load("folder", tmp_path)
    x, y = read(tmp_path / "train", "L" if grey else "RGB")
    assert torch.equal(data.train.x, x) and data.train.y.tolist() == y
    if grey:  # as torchvision's three equal channels
        coloured = read(tmp_path / "train")[0]
        assert torch.equal(data.train.x.expand(-1, 3, -1, -1), coloured)


def test_a_picture_is_not_turned_by_its_exif(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    for name in ("train/a/1.jpg", "test/a/1.jpg"):
        draw(tmp_path / name, exif=exif)
    assert torch.equal(load("folder", tmp_path).train.x, read(tmp_path / "train")[0])


def test_sixteen_bits_are_refused_by_name(tmp_path):
    for name in ("train/a/1.png", "test/a/1.png"):
        draw(tmp_path / name, "L")
    Image.fromarray(np.full((4, 5), 40_000, np.uint16)).save(tmp_path / "train/a/2.tif")
    with pytest.raises(ValueError, match=r"2\.tif: expected 8 bits per channel; found mode I;16"):
        load("folder", tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp"])
@pytest.mark.parametrize("left", [0, 8, 0.6])
def test_damaged_images_are_named(tmp_path, suffix, left):
    for name in (f"train/a/1{suffix}", f"train/a/2{suffix}", f"test/a/1{suffix}"):
        draw(tmp_path / name, size=(64, 64))
    path = tmp_path / f"train/a/2{suffix}"
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content)) if left < 1 else left])
    with pytest.raises(ValueError, match=rf"a.2\{suffix}: expected an image; found"):
        load("folder", tmp_path)


def test_a_class_without_images_is_named(tmp_path):
    for name in ("train/a/1.png", "test/a/1.png"):
        draw(tmp_path / name)
    (tmp_path / "train/b/.hidden").mkdir(parents=True)
    message = r"train.b: expected images \(.*\.tiff.*\) in it or below; found none"
    with pytest.raises(ValueError, match=message):
        load("folder", tmp_path)
