"""Which files of a folder are images of which class, by torchvision's rules."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from pathlib import Path

# As torchvision.datasets.folder, in any case.
SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}
SHOWN = 5  # names of skipped files in the warning


class Listing:
    """Lists images and records what it skips: hidden files and folders, other kinds of files."""

    def __init__(self) -> None:
        self.skipped: list[Path] = []

    def skip(self, paths: Iterable[Path]) -> None:
        """Record these as skipped."""
        self.skipped += paths

    def classes(self, top: Path) -> dict[str, list[Path]]:
        """Class -> images, for every folder of `top` that is not hidden.

        Raises ValueError naming a class without images.
        """
        found = {}
        for place in sorted(top.iterdir()):
            if place.is_dir() and not _hidden(place):
                found[place.name] = self.images(place)
            else:
                self.skipped.append(place)
        return found

    def images(self, place: Path) -> list[Path]:
        """The images in `place` and below, folder by folder in the order of their names."""
        found: list[Path] = []
        for folder in sorted(self._folders(place), key=str):
            for path in sorted(p for p in folder.iterdir() if not p.is_dir()):
                is_image = path.suffix.lower() in SUFFIXES and not _hidden(path)
                (found if is_image else self.skipped).append(path)
        if not found:
            kinds = ", ".join(sorted(SUFFIXES))
            raise ValueError(f"{place}: expected images ({kinds}) in it or below; found none")
        return found

    def _folders(self, place: Path) -> list[Path]:
        """`place` and what is below it, links followed, but none into a folder it lies in."""
        found = []
        for top, below, _ in os.walk(place, followlinks=True):
            here = Path(top)
            found.append(here)
            self.skipped += [here / name for name in below if _is_skipped(here, name)]
            below[:] = [name for name in below if not _is_skipped(here, name)]
        return found

    def warn(self, root: Path) -> None:
        """One warning with the number of skipped files and the first of them."""
        if self.skipped:
            names = [os.path.relpath(path, root) for path in self.skipped[:SHOWN]]
            more = ", ..." if len(self.skipped) > SHOWN else ""
            warnings.warn(
                f"{root}: skipped {len(self.skipped)} files or folders that are hidden or no "
                f"images: {', '.join(names)}{more}",
                stacklevel=4,
            )


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _is_skipped(here: Path, name: str) -> bool:
    """Whether the folder `name` is hidden, or a link to a folder above: a walk without end."""
    path = here / name
    return (
        _hidden(path)
        or (path.is_symlink() and path.resolve() in here.resolve().parents)
        or (path.is_symlink() and path.resolve() == here.resolve())
    )
