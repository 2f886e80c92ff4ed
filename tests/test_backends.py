"""What `aggregate`, `stats`, `perturb` and `step` promise beside what all operations do."""

from __future__ import annotations

import pytest
import torch
from fedfast.kernels.server import RULES
from layer_cases import same
from operation_calls import make
from operation_forms import ROW_CASES
from torch import Tensor

from fedfast import kernels

every_backend = pytest.mark.parametrize("backend", ("native", "triton"))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@every_backend
def test_stats_count_what_is_not_finite(backend: str) -> None:
    x, y = torch.ones(2, 100), torch.ones(2, 100)
    x[0, 3], x[0, 50], y[0, 50], y[0, 99] = torch.nan, torch.inf, -torch.inf, torch.nan
    table = kernels.Segments.of([0, 40], [40, 60])
    sums = kernels.stats(x, y, segments=table, backend=backend)
    assert sums[..., kernels.Column.NONFINITE].tolist() == [[1, 2], [0, 0]]
    huge = torch.full((1, 4), 1e200, dtype=torch.float64)  # its square overflows, it does not
    assert kernels.stats(huge, backend=backend)[0, 0, kernels.Column.NONFINITE] == 0


@every_backend
@pytest.mark.parametrize("base", ["shared", "bank"])
@pytest.mark.parametrize("rule", RULES)
def test_chunks_change_no_bit(rule: str, base: str, backend: str) -> None:
    clients, size = 5, 4097 if backend == "native" else 33
    server = kernels.Server(rule, lr=0.5)

    def chunked(cuts: tuple[int, ...]) -> list[Tensor]:
        inputs = make("aggregate", ROW_CASES["aggregate"].forms["adam"] | {"S": size}, 5).arguments
        last = {n: inputs[n] for n in ("w", "m", "v", "out")} | {"server": server}
        start = inputs["base"][0] if base == "shared" else inputs["base"]
        squares, nodes = [], torch.full((3, size), torch.nan, dtype=torch.float64)
        for begin, end in zip((0, *cuts), (*cuts, clients), strict=True):
            squares.append(
                kernels.aggregate(
                    inputs["client_rows"][begin:end],
                    inputs["weights"][begin:end],
                    start if base == "shared" else start[begin:end],
                    acc=inputs["acc"],
                    nodes=nodes,
                    at=begin,
                    of=clients,
                    backend=backend,
                    **last if end == clients else {},
                )
            )
            assert end == clients or squares[-1][-1].isnan()
        norms = torch.cat([*(s[:-1] for s in squares), squares[-1][-1:]])
        return [norms, inputs["acc"], inputs["out"], inputs["m"], inputs["v"]]

    whole = chunked(())
    for cuts in ((1,), (2, 4), (1, 2, 3, 4)):
        for a, b in zip(whole, chunked(cuts), strict=True):
            same(a, b)


def test_terms_that_cancel_leave_a_shared_row_alone() -> None:
    """Eight equal and opposite terms: the direction is zero, and so is the move."""
    w, g = torch.randn(2, 65), torch.randn(2, 65)
    terms = [(g, (-1.0) ** j) for j in range(8)]
    same(kernels.perturb(w, terms, 0.5, backend="native"), w)
    same(kernels.step(w, terms, 0.5, out=torch.empty_like(w), backend="native"), w)
