"""How far clients' models are from the global one: as a whole, and tensor by tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import kernels
from ...layout import FlatLayout
from ...torch_settings import torch_threads


def layer_sensitivity(
    rows: Tensor, start: Tensor, layout: FlatLayout, *, normalize: bool = False
) -> Tensor:
    """FedFSA's perturbation sensitivity of trained tensors `[K, L]`, float64.

        s_l = mean over tensor l of (v_l - w_l)^2

    rows       `[K, S]` v, models after local training; start  `[S]` or `[K, S]` w, before it
    normalize  as the authors' code: each tensor is first brought to [0, 1] by its own extremes;
               NaN where all its elements are equal
    The rule by which `fedfsa` selects layers (Xing et al. 2025, "Flexible sharpness-aware
    personalized federated learning"). Raises ValueError/TypeError for shapes that do not fit.
    """
    _check(rows, layout, start=start)
    trained, segments = layout.trained, layout.segments(rows.device)
    given = rows[:, :trained], start[..., :trained]
    return kernels.sensitivity(*given, segments, normalize=normalize)


def flatness_distance(rows: Tensor, center: Tensor, layout: FlatLayout) -> Tensor:
    """`|v_k - w|` `[K]` float64, Euclidean, over the trained parameters.

    rows    `[K, S]` v_k, the clients' models; center  `[S]` w, the global model
    FedNSAM explains with a distance of this kind why flat local models need not give a flat global
    one (Liu et al. 2026, "FedNSAM: consistency of local and global flatness").
    Raises ValueError for shapes that do not fit.
    """
    _check(rows, layout, center=center)
    found = []
    with torch_threads(1):  # the order of a sum may depend on how many threads share it
        for row in rows:
            far = row.double() - center.double()
            views = layout.views(far, trained_only=True).values()
            found.append(torch.stack([view.square().sum() for view in views]).sum().sqrt())
    return torch.stack(found)


def _check(rows: Tensor, layout: FlatLayout, **others: Tensor) -> None:
    if rows.ndim != 2 or not len(rows) or rows.shape[1] != layout.stride:
        raise ValueError(f"rows: expected [K, {layout.stride}]; got {list(rows.shape)}")
    for name, other in others.items():
        if other.shape not in (rows.shape, rows.shape[1:]):
            raise ValueError(f"{name}: expected [{layout.stride}]; got {list(other.shape)}")
