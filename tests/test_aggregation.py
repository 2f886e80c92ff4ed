"""The mean of a round and the server's step at its end, against float64 arithmetic by hand."""

import math

import pytest
import torch
from fedfast.kernels import Server
from torch import nn

from fedfast.aggregation import Ending, Mean
from fedfast.algorithms import TrainedLayout
from fedfast.layout import FlatLayout
from fedfast.running_sum import Place
from fedfast.state import ServerState

RULES = [Server("average", 0.5), Server("momentum", 0.5, beta1=0.9), Server("adam", 0.1, 0.9, 0.99)]
WEIGHTS = torch.tensor([0.125, 0.375, 0.25, 0.25], dtype=torch.float64)


def made(rule):
    """A mean, the server before and after, and four clients' models: trained and carried parts."""
    module = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))
    layout, device = FlatLayout.of(module, torch.float32), torch.device("cpu")
    row = layout.flatten(module, device)
    before = ServerState(row, layout.trained, rule)
    for moment in (before.m, before.v):
        if moment is not None:
            moment.uniform_(0.1, 0.2)
    after = before.twin()
    after.follow(before)
    models = row + torch.randn(4, len(row))
    return Mean(row, TrainedLayout.of(layout, device), "auto"), before, after, models


def expected(rule, before, models):
    """(update [S], the server's new row [S]) in float64."""
    row, t = before.row.double(), before.trained
    update = torch.zeros_like(row)
    for weight, model in zip(WEIGHTS, models.double(), strict=True):
        update += weight * (model - row)
    step, change = update, update[:t]
    if rule.rule == "momentum":
        change = rule.beta1 * before.m.double() + change
    if rule.rule == "adam":
        m = rule.beta1 * before.m.double() + (1 - rule.beta1) * change
        v = rule.beta2 * before.v.double() + (1 - rule.beta2) * change**2
        change = m / (v.sqrt() + rule.tau)
    return step, torch.cat([row[:t] + rule.lr * change, row[t:] + step[t:]])


@pytest.mark.parametrize("chunk", [1, 2, 3, 4])
@pytest.mark.parametrize("bad", [(), (1,), (0, 3), (2, 3)])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.rule)
def test_models_that_are_not_finite_count_as_the_one_sent(rule, bad, chunk):
    torch.manual_seed(0)
    mean, before, after, models = made(rule)
    sent, kept = before.row, models.clone()
    for n, k in enumerate(bad):
        where = 3 if n == 0 else before.trained + 1  # a weight, or a running statistic
        models[k, where], kept[k] = (math.nan, math.inf)[n], sent
    found = []
    for k in range(0, 4, chunk):
        part = slice(k, k + chunk)
        ending = Ending(rule, before, after) if k + chunk >= 4 else None
        at = mean.add(models[part], WEIGHTS[part], sent, Place(k, 4), ending)
        found += (at + k).tolist()
    update, row = expected(rule, before, kept)
    assert found == list(bad) and torch.equal(models, kept)
    assert torch.allclose(mean.acc, update, rtol=0, atol=1e-12)
    assert torch.allclose(after.row.double(), row, rtol=1e-6, atol=1e-6)
    assert float(mean.square) ** 0.5 == pytest.approx(
        float(update[: before.trained].norm()), rel=1e-12
    )


def test_squares_that_overflow_are_no_divergence():
    """1e200 is a finite weight in float64, though its square is not."""
    module = nn.Linear(5, 4).double()
    layout, device = FlatLayout.of(module, torch.float64), torch.device("cpu")
    row = layout.flatten(module, device)
    mean = Mean(row, TrainedLayout.of(layout, device), "auto")
    models = row.repeat(2, 1)
    models[1, 0] = 1e200
    assert len(mean.add(models, WEIGHTS[:2], row, Place(0, 2), None)) == 0
    assert float(mean.acc[0]) == pytest.approx(3.75e199) and math.isfinite(float(models[1, 0]))
