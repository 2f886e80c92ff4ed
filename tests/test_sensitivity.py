"""`sensitivity` against its formula written out, and where it has no value."""

from __future__ import annotations

import pytest
import torch
from fedfast.kernels import Segments, sensitivity
from layer_cases import poison, same
from torch import Tensor

every_voice = pytest.mark.parametrize("voice", ["native", "triton"])
TABLE = Segments.of([0, 64, 100], [50, 33, 200])


def score(x: Tensor, y: Tensor, normalize: bool) -> float:
    """The formula for one client's segment, on Python floats."""

    def n(values: list[float]) -> list[float]:
        low, high = min(values), max(values)
        return [(v - low) / (high - low) for v in values] if normalize else values

    changes = [(a - b) ** 2 for a, b in zip(n(x.tolist()), n(y.tolist()), strict=True)]
    return sum(changes) / len(changes)


@every_voice
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_formula(normalize: bool, shared: bool, dtype: torch.dtype, voice: str) -> None:
    """Padding holds NaN: it must not be looked at."""
    x, y = torch.randn(2, 3, 320, dtype=dtype)
    x[:, 50:64] = y[:, 97:100] = torch.nan
    y = y[0] if shared else y
    out = poison(3, 3, dtype=torch.float64)
    found = sensitivity(x, y, TABLE, normalize=normalize, out=out, backend=voice)
    assert found.data_ptr() == out.data_ptr()
    for k in range(3):
        before = y if shared else y[k]
        for layer, (a, b) in enumerate(TABLE.spans):
            right = score(x[k, a:b], before[a:b], normalize)
            assert found[k, layer].item() == pytest.approx(right, rel=1e-12)


@every_voice
def test_normalized_scores_forget_scale_and_shift(voice: str) -> None:
    x, y = torch.randn(2, 4, 320, dtype=torch.float64)
    plain = sensitivity(x, y, TABLE, normalize=True, backend=voice)
    moved = sensitivity(3 * x + 5, 0.25 * y - 2, TABLE, normalize=True, backend=voice)
    torch.testing.assert_close(moved, plain, rtol=1e-12, atol=0)


@every_voice
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, where infinity meets infinity
def test_what_is_not_finite_has_no_score(bad: float, normalize: bool, voice: str) -> None:
    """In x and in y, in the body and in the tail of a segment; the other scores stay."""
    x, y = torch.randn(2, 2, 320)
    whole = sensitivity(x, y, TABLE, normalize=normalize, backend=voice)
    x[0, 70], y[1, 299] = bad, bad
    found = sensitivity(x, y, TABLE, normalize=normalize, backend=voice)
    lost = torch.tensor([[False, True, False], [False, False, True]])
    assert found[lost].isnan().all()
    same(found[~lost], whole[~lost])


@every_voice
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, for 0 / 0
def test_segments_without_extent(voice: str) -> None:
    """Equal elements (0 / 0) and no elements have no score; without normalising, equal ones do."""
    table = Segments.of([0, 10, 10], [10, 0, 20])
    x, y = torch.full((1, 30), 2.0), torch.randn(30)
    scores = sensitivity(x, y, table, normalize=True, backend=voice)
    assert scores.isnan().all()
    plain = sensitivity(x, y, table, normalize=False, backend=voice)
    assert plain.isnan().tolist() == [[False, True, False]]


def test_errors_name_the_argument() -> None:
    x = torch.randn(3, 300)
    with pytest.raises(ValueError, match=r"y: expected shape \[3, 300\] or \[300\]"):
        sensitivity(x, x[:2], TABLE, normalize=True)
    with pytest.raises(ValueError, match="segments: expected end <= S = 200; got 300"):
        sensitivity(x[:, :200], x[:, :200], TABLE, normalize=True)
    with pytest.raises(ValueError, match=r"out: expected contiguous float64 \[3, 3\]"):
        sensitivity(x, x, TABLE, normalize=False, out=torch.empty(3, 3))
