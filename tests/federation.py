"""Small federations, models and independent training scripts that the tests share."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fedfast


def arrays(sizes: Sequence[int], shape: tuple[int, ...] = (8,), classes: int = 4, seed: int = 0):
    """One (x, y) per client: Gaussian inputs, labels that depend on them."""
    generator = torch.Generator().manual_seed(seed)
    xs = [torch.randn(n, *shape, generator=generator) for n in sizes]
    teacher = torch.randn(int(torch.tensor(shape).prod()), classes, generator=generator)
    return xs, [(x.flatten(1) @ teacher).argmax(dim=1) for x in xs]


def federation(sizes: Sequence[int], **kwargs) -> fedfast.FederatedData:
    """The same as `FederatedData`."""
    return fedfast.FederatedData.from_arrays(*arrays(sizes, **kwargs))


def mlp(inputs: int = 8, classes: int = 4, seed: int = 0, dtype=torch.float32) -> nn.Module:
    """Two layers with tanh: smooth, so that float32 and float64 runs stay close."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Linear(inputs, 7), nn.Tanh(), nn.Linear(7, classes)
        return nn.Sequential(nn.Flatten(), *layers).to(dtype)


def trained(*args, **options) -> fedfast.Simulation:
    """`Simulation` with these arguments, run to its end."""
    sim = fedfast.Simulation(*args, **options)
    sim.run(progress=False)
    return sim


def final(*args, **options) -> Tensor:
    """The flat weights at the end of that run."""
    return flat(trained(*args, **options).state_dict())


def batches_of(plan) -> dict[int, list[Tensor]]:
    """Client -> the samples of its batches in a round of a schedule."""
    index, count = plan.batches(np.arange(len(plan.clients)))
    return {
        int(client): [index[j, s, : count[j, s]] for s in range(int(plan.steps[j]))]
        for j, client in enumerate(plan.clients)
    }


def sgd(module: nn.Module, x: Tensor, y: Tensor, *_: int, lr: float = 0.2) -> None:
    """A step of SGD in place."""
    learns = [p for p in module.parameters() if p.requires_grad]
    loss = F.cross_entropy(module(x.to(learns[0].dtype)), y)
    for p, g in zip(learns, torch.autograd.grad(loss, learns), strict=True):
        p.data -= lr * g


def fedavg(module: nn.Module, data, cohorts, batches, step=sgd) -> nn.Module:
    """FedAvg in plain torch, weights n_k: a copy of `module`, trained, its buffers averaged too.

    data: (all x, all y), one per client; step: (module, x, y, round, client, number) -> None
    """
    module = deepcopy(module)
    for t, (cohort, work) in enumerate(zip(cohorts, batches, strict=True)):
        total, mean = sum(len(data[1][k]) for k in cohort), {}
        for k, steps in zip(cohort, work, strict=True):
            local, x, y = deepcopy(module).train(), data[0][k], data[1][k]
            for s, rows in enumerate(steps):
                step(local, x[rows], y[rows], t, k, s)
            for name, v in (*local.named_parameters(), *local.named_buffers()):
                if v.dtype == torch.int64 or v.is_floating_point():
                    mean[name] = mean.get(name, 0) + len(y) * v.detach().double()
        held = dict((*module.named_parameters(), *module.named_buffers()))
        for name, value in mean.items():
            whole = not held[name].is_floating_point()
            held[name].data.copy_((value / total + 1e-9).trunc() if whole else value / total)
    return module


class NextWord(nn.Module):
    """Words to vectors, an LSTM over them, dropout, log-probabilities of what comes next."""

    def __init__(self, words: int = 6, size: int = 3, hidden: int = 4) -> None:
        super().__init__()
        self.words = nn.Embedding(words, size, padding_idx=0)
        self.lstm = nn.LSTM(size, hidden, batch_first=True)
        self.drop, self.head = nn.Dropout(0.3), nn.Linear(hidden, words)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(self.words(x))
        return F.log_softmax(self.head(self.drop(out[:, -1])), dim=1)


def next_word() -> NextWord:
    """Always the same one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NextWord()


def sentences(sizes: Sequence[int], length: int = 3, words: int = 6) -> fedfast.FederatedData:
    """One client per size: sequences of words that count on, and the word that follows."""
    starts = [torch.arange(n) * (k + 1) for k, n in enumerate(sizes)]
    xs = [(s[:, None] + torch.arange(length)) % words for s in starts]
    return fedfast.FederatedData.from_arrays(xs, [(x[:, -1] + 1) % words for x in xs])


def flat(state: dict[str, Tensor]) -> Tensor:
    """All tensors of a state dict, end to end, in float64."""
    return torch.cat([t.double().flatten() for t in state.values()])


def gradient(module: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    """Plain autograd's gradient of the mean cross-entropy."""
    return list(torch.autograd.grad(F.cross_entropy(module(x), y), list(module.parameters())))


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """Euclidean norm over all of them."""
    return torch.sqrt(sum(t.square().sum() for t in tensors))


@torch.no_grad()
def add(module: nn.Module, tensors: Sequence[Tensor], scale: float | Tensor) -> None:
    """p <- p + scale * t for every parameter."""
    for p, t in zip(module.parameters(), tensors, strict=True):
        p += scale * t


def sam_gradient(module: nn.Module, x: Tensor, y: Tensor, rho: float, eps: float) -> list[Tensor]:
    """The gradient at `w + rho g / (|g| + eps)`, the module put back as it was."""
    saved = [p.detach().clone() for p in module.parameters()]
    g = gradient(module, x, y)
    add(module, g, rho / (norm(g) + eps))
    result = gradient(module, x, y)
    with torch.no_grad():
        for p, s in zip(module.parameters(), saved, strict=True):
            p.copy_(s)
    return result
