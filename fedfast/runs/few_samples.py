"""`few`: the samples on which finished runs are measured where there are too many."""

from __future__ import annotations

import numpy as np
import torch

from ..data import Samples


def few(samples: Samples, most: int, seed: int) -> Samples:
    """At most so many of them, drawn without replacement; the same ones for one seed."""
    if len(samples) <= most:
        return samples
    drawn = np.random.default_rng(seed).choice(len(samples), most, replace=False)
    return samples.take(torch.from_numpy(np.sort(drawn)))
