"""What tests of losses draw logits from: backends, dtypes, ragged batches, how sure they are."""

from __future__ import annotations

import pytest
import torch
from hypothesis import strategies as st
from layer_cases import DTYPES
from torch import Tensor

every_backend = pytest.mark.parametrize("backend", ["reference", "native", "triton"])
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=("float32", "float64"))
# One tile of a Triton kernel and several, along the batch and along the classes.
tiles = pytest.mark.parametrize("batch, classes, stretch", [(1, 1, 1), (7, 10, 1e-3), (5, 700, 30)])
LOGITS = {
    "backend": st.sampled_from(["reference", "native"]),
    "dtype": st.sampled_from(DTYPES),
    "batch": st.integers(1, 70),
    "stretch": st.sampled_from([1e-3, 1.0, 30.0]),
    "kind": st.sampled_from(["bank", "strided"]),
    "data": st.data(),
}


def counts(data: st.DataObject, batch: int) -> Tensor:
    """Of three clients' batches, none of them empty. [3] int32"""
    return torch.tensor([data.draw(st.integers(1, batch)) for _ in range(3)], dtype=torch.int32)
