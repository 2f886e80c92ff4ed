"""Figures of explanations: images under Grad-CAM's maps, and accuracy per class as a heat map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..explain.class_accuracy import ClassAccuracy
from .style import COLUMN, MEDIUM, SMALL, TEXT, figure_of, label_text, nothing_finite

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE = 0.19  # inches of a line of the heat map
WRITTEN = 12  # classes, up to which cells hold their numbers
NAMED = 12  # characters beside a line
MAPS, SHARES = "inferno", "cividis"
OPAQUE = 0.9  # where a map is largest: the image is seen through it


def maps(images: Tensor, classes: Tensor, found: Mapping[str, Tensor]) -> Figure:
    """The images, and below them each model's maps over them, each up to its largest value.

    images   `[n, C, H, W]`, C 1 or 3, whatever their range
    classes  `[n]`, whose logits the maps are of
    found    model -> `[n, H, W]`
    """
    pictures, lines = [_picture(image) for image in images], 1 + len(found)
    side = (COLUMN - 0.55) / len(images)
    figure = figure_of((COLUMN, side * lines + 0.75))
    drawn = figure.subplots(lines, len(images), squeeze=False)
    shown = None
    for j, (picture, c) in enumerate(zip(pictures, classes.tolist(), strict=True)):
        _plain(drawn[0, j], "images" if j == 0 else "")
        drawn[0, j].imshow(picture, cmap="gray")
        drawn[0, j].set_title(f"class {c}", fontsize=SMALL, color=TEXT, pad=2)
        for i, (name, own) in enumerate(found.items(), start=1):
            _plain(drawn[i, j], name if j == 0 else "")
            drawn[i, j].imshow(picture, cmap="gray")
            share = _share(own[j])
            if share is None:
                nothing_finite(drawn[i, j])
                share = np.zeros(own[j].shape)
            # Opaque as far as it says something: what is large has the colours of the bar.
            shown = drawn[i, j].imshow(share, cmap=MAPS, alpha=OPAQUE * share**0.5, vmin=0, vmax=1)
    if shown is not None:
        bar = figure.colorbar(shown, ax=drawn, location="bottom", aspect=45, pad=0.01)
        bar.ax.tick_params(labelsize=SMALL, colors=TEXT, length=2)
        bar.set_label("Grad-CAM, share of the map's largest", fontsize=MEDIUM, color=TEXT)
    return figure


def _share(own: Tensor) -> np.ndarray | None:
    """A map `[H, W]` by its largest value; None of a model that is not finite."""
    values = own.cpu().double().numpy()
    return values / (values.max() or 1.0) if np.isfinite(values).all() else None


def _picture(image: Tensor) -> np.ndarray:
    """From 0 to 1, `[H, W]` or `[H, W, 3]`."""
    values = image.detach().cpu().double().numpy()
    low, high = values.min(), values.max()
    scaled = (values - low) / (high - low if high > low else 1.0)
    return scaled.transpose(1, 2, 0) if len(scaled) == 3 else scaled.mean(0)


def _plain(ax: Axes, name: str) -> None:
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)
    if name:
        ax.set_ylabel(label_text(name, NAMED), fontsize=SMALL, color=TEXT)


def classes(found: ClassAccuracy, label: str) -> Figure:
    """Accuracy per class, a line per model; numbers in the cells where there is room."""
    models, columns = found.accuracy.shape
    figure = figure_of((COLUMN, LINE * models + 1.05))
    ax = figure.subplots()
    shares = 100 * found.accuracy
    shown = ax.imshow(shares, cmap=SHARES, vmin=0, vmax=100, aspect="auto")
    ax.set_yticks(range(models), [label_text(name, 2 * NAMED) for name in found.models])
    step = -(-columns // 12)
    ax.set_xticks(range(0, columns, step), [str(c) for c in range(0, columns, step)])
    ax.tick_params(labelsize=SMALL, colors=TEXT, length=0)
    ax.set_xlabel("class", fontsize=MEDIUM, color=TEXT)
    ax.set_title(label_text(label), fontsize=SMALL, color=TEXT, pad=3)
    if columns <= WRITTEN:
        for i, j in np.argwhere(np.isfinite(shares)):
            ink = "black" if shares[i, j] > 55 else "white"
            text = ax.text(j, i, f"{shares[i, j]:.0f}", ha="center", va="center", color=ink)
            text.set_fontsize(6.0)
    bar = figure.colorbar(shown, ax=ax, location="bottom", aspect=45, pad=0.02)
    bar.ax.tick_params(labelsize=SMALL, colors=TEXT, length=2)
    bar.set_label("accuracy (%)", fontsize=MEDIUM, color=TEXT)
    return figure
