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
from .module_state import as_before, changed, module_state
from .reasons import NotBatched
from .user_samples import UserSamples, user_samples

STEPS = 3
OWN, WHOLE, ROUNDING = 1e-3, 1e-5, 16.0  # of a tensor's step, of the whole step, of the values
SEED, SIZE = 0, 0.01  # of variates
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
    """Raise NotBatched unless a few steps of `trained` equal pfl's own.

    What is compared are the steps, not the parameters, which hide them where rates are small.
    What is drawn at random cannot be equal: dropout is taken out of both. Variates, zeros in a
    first round, are drawn. The module and the state of torch's generator are as before afterwards.
    """
    params = call.params.static_clone(
        local_num_epochs=None, local_num_steps=STEPS * call.params.grad_accumulation_steps
    )
    few = Dataset((user.x, user.y), train_kwargs=user.kwargs)
    start = model.get_parameters()
    terms = _terms(call, start)
    ours = trained(user_samples(few, params, user.x.device), Call(call.step, params, terms))
    if "mu" in terms:
        terms["global_weights"] = start
    with _borrowed(model, start):
        model.do_multiple_epochs_of(few, params, call.step, **terms)
        _compare(model, start, ours)


def _terms(call: Call, start: MappedVectorStatistics) -> dict[str, object]:
    """What the step is given: mu, or variates of some size."""
    if "mu" in call.terms or not call.terms:
        return dict(call.terms)
    draw = torch.Generator(next(iter(start.values())).device).manual_seed(SEED)
    return {
        name: start.apply_elementwise(
            lambda t: torch.empty_like(t).normal_(0.0, SIZE, generator=draw)
        )
        for name in call.terms
    }


def _compare(model: PyTorchModel, start: MappedVectorStatistics, ours: dict[str, Tensor]) -> None:
    values = {name: value.detach() for name, value in model.variable_map.items()}
    for name in values:
        if name not in ours:
            raise NotBatched(f"{name} is a parameter of its own in pfl alone")
    steps = {name: float((value - start[name]).norm()) for name, value in values.items()}
    whole = sum(step**2 for step in steps.values()) ** 0.5
    for name, value in values.items():
        rounding = ROUNDING * torch.finfo(value.dtype).eps * float(value.norm())
        gap = float((ours[name] - value).norm())
        if not gap <= OWN * steps[name] + WHOLE * whole + rounding:
            raise NotBatched(f"one user's {name} differs from pfl's own result by {gap:.1e}")


@contextmanager
def _borrowed(model: PyTorchModel, start: MappedVectorStatistics) -> Generator[None]:
    """The model for a trial. Raises NotBatched where training leaves more than parameters."""
    module = model.pytorch_model
    with as_before(module):
        for layer in (rates := _dropouts(module)):
            layer.p = 0.0
        module.eval()  # as after an evaluation: the loss has to choose the mode
        before = module_state(module)
        try:
            yield
            if moved := changed(before, module):
                raise NotBatched(f"training changes {moved}, which pfl passes on from user to user")
            if not all(layer.training for layer in rates):
                raise NotBatched("loss does not put the module's dropout in training mode")
        finally:
            model.set_parameters(start)
