"""Whatever mode of torch surrounds a call, what is trained and evaluated has the same bits."""

from __future__ import annotations

import pytest
import torch
from federation import federation, mlp
from torch import Tensor, nn

import fedfast

SIZES = [9, 5, 7]
MODES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


class Untraced(nn.Module):
    """No layer program: autograd trains it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = mlp()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) * (2.0 if float(x.detach().sum()) > 0 else 1.0)


def trained(module: nn.Module) -> list[Tensor]:
    data = federation(SIZES)
    sample = data.x[:6], data.y[:6]
    cohort = fedfast.Cohort(module, data, "fedsam", batch_size=4, threads=1)
    update = cohort.train()
    cohort.step(update)
    run = fedfast.Simulation(module, data, batch_size=4, rounds=1, threads=1)
    run.run()
    ensemble = fedfast.Ensemble([module, module], 2, optimizer="sam")
    losses, scores = ensemble.step(*sample), ensemble.evaluate(*sample)
    states = [*cohort.state_dict().values(), *run.state_dict().values()]
    return [update.models, *states, losses, *scores, ensemble.predict(sample[0])]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("make", [mlp, Untraced])
def test_modes_of_the_caller_change_nothing(make, mode):
    module = make()
    expected = trained(module)
    with MODES[mode]():
        found = trained(module)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
