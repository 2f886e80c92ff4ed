"""One user's first local steps, compared with those of pfl's own loop."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from copy import deepcopy

import torch
from pfl.data.dataset import Dataset
from pfl.model.pytorch import PyTorchModel
from pfl.stats import MappedVectorStatistics
from torch import Tensor, nn

from .expected_calls import Call
from .reasons import NotBatched
from .user_samples import UserSamples, user_samples

STEPS = 3
CLOSE = 1e-5
DROPOUT = nn.modules.dropout._DropoutNd


def without_dropout(module: nn.Module) -> nn.Module:
    """The module itself, or a copy whose dropout layers keep everything."""
    if not _dropouts(module):
        return module
    plain = deepcopy(module)
    for layer in _dropouts(plain):
        layer.p = 0.0
    return plain


def _dropouts(module: nn.Module) -> list[DROPOUT]:
    return [m for m in module.modules() if isinstance(m, DROPOUT) and m.p > 0]


def check_one_user(
    model: PyTorchModel,
    user: UserSamples,
    call: Call,
    trained: Callable[[UserSamples, Call], dict[str, Tensor]],
) -> None:
    """Raise NotBatched unless a few steps of `trained` equal pfl's own, 1e-5.

    What is drawn at random cannot be equal: dropout is taken out of both. The model, the state of
    torch's generator and the modes of its layers are as before afterwards.
    """
    params = call.params.static_clone(
        local_num_epochs=None, local_num_steps=STEPS * call.params.grad_accumulation_steps
    )
    few = Dataset((user.x, user.y), train_kwargs=user.kwargs)
    ours = trained(user_samples(few, params, user.x.device), Call(call.step, params, call.terms))
    with _borrowed(model) as start:
        model.do_multiple_epochs_of(few, params, call.step, **_terms(call, start))
        _compare(model, start, ours)


def _terms(call: Call, start: MappedVectorStatistics) -> dict[str, object]:
    """What the step is given, with pfl's zeros for None."""
    zeros = start.apply_elementwise(torch.zeros_like)
    terms = {name: zeros if value is None else value for name, value in call.terms.items()}
    return terms | {"global_weights": start} if "mu" in terms else terms


def _compare(model: PyTorchModel, start: MappedVectorStatistics, ours: dict[str, Tensor]) -> None:
    for name, value in model.variable_map.items():
        if name not in ours:
            raise NotBatched(f"{name} is a parameter of its own in pfl alone")
        if not torch.allclose(ours[name], value.detach(), CLOSE, CLOSE, equal_nan=True):
            gap = float((ours[name] - value.detach()).abs().max())
            raise NotBatched(f"one user's {name} differs from pfl's own result by {gap:.1e}")


@contextmanager
def _borrowed(model: PyTorchModel) -> Generator[MappedVectorStatistics]:
    """The model for a trial; its parameters at the start. Raises NotBatched if a buffer moved."""
    module, start = model.pytorch_model, model.get_parameters()
    buffers = {name: b.detach().clone() for name, b in module.named_buffers()}
    modes = [(m, m.training) for m in module.modules()]
    rates = [(m, m.p) for m in _dropouts(module)]
    random = torch.get_rng_state()
    for layer, _ in rates:
        layer.p = 0.0
    try:
        yield start
        moved = [n for n, b in module.named_buffers() if not torch.equal(b, buffers[n])]
        if moved:
            raise NotBatched(f"training changes {moved[0]}, which pfl passes on from user to user")
        if not all(layer.training for layer, _ in rates):
            raise NotBatched("loss leaves the module's dropout in evaluation mode")
    finally:
        torch.set_rng_state(random)
        model.set_parameters(start)
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name])
        for m, mode in modes:
            m.training = mode
        for layer, p in rates:
            layer.p = p
