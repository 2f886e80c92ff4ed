"""Users of one model trained at once by `fedfast.Cohort`, each as pfl's loop would train it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pfl.model.pytorch import PyTorchModel
from torch import Tensor, nn

from .cohorts import Cohorts
from .declared_loss import class_labels, declared_loss
from .expected_calls import Call
from .input_layout import Head, split_head
from .module_state import alike, as_before, changed, module_state
from .one_user_check import check_one_user, without_dropout
from .reasons import NotBatched
from .user_parameters import UserParameters
from .user_samples import UserSamples

FLOATS = torch.float32, torch.float64
METHODS = (  # of a PyTorchModel, which a cohort stands in for
    "do_multiple_epochs_of",
    "get_model_difference",
    "get_parameters",
    "set_parameters",
    "_prepare_batch",
    "_set_parameters",
    "_get_local_num_steps",
)


class CohortTraining:
    """What trains the users of one `PyTorchModel`; made from the first user's samples.

    Raises NotBatched where the model cannot train in a cohort.
    """

    def __init__(self, model: PyTorchModel, first: UserSamples) -> None:
        _check_model(model)
        self._model, module = model, model.pytorch_model
        self._state = module_state(module)
        with as_before(module):
            self._prepare(module, first)

    def suits(self, first: UserSamples) -> bool:
        """Whether the module, and what the loss is given besides, are what it was made for."""
        same = alike(self._kwargs, first.kwargs)
        return same and not changed(self._state, self._model.pytorch_model)

    def _prepare(self, module: nn.Module, first: UserSamples) -> None:
        model = self._model
        own, self._labels = declared_loss(module, first.x, first.y, first.kwargs)
        self._kwargs, self._tail = dict(first.kwargs), first.y.shape[1:]
        split = split_head(module)
        self._head: Head | None = None if split is None else split[0]
        rest = module if split is None else split[1]
        loss = "cross_entropy" if self._labels else own
        self._cohorts = Cohorts(model, rest, loss)
        self._plain = self._cohorts
        if without_dropout(rest) is not rest:
            self._plain = Cohorts(model, without_dropout(rest), loss)
        self._checked: set[object] = set()

    def train(
        self, users: Sequence[UserSamples], calls: Sequence[Call], seed: int
    ) -> list[UserParameters | None]:
        """Each user's parameters after its local steps, from the model's; None: they diverged.

        calls  what each of them is to do; they differ in SCAFFOLD's variates at most
        seed   key of what is drawn at random (dropout)
        The values are overwritten by the next call.
        """
        kind = self._cohorts.kind(calls[0])._replace(mu=None)  # which may change every round
        if kind not in self._checked:
            check_one_user(self._model, users[0], calls[0], self._trained_plainly)
            self._checked.add(kind)
        return self._trained(self._cohorts, users, calls, seed)

    def _trained_plainly(self, user: UserSamples, call: Call) -> dict[str, Tensor]:
        (after,) = self._trained(self._plain, [user], [call], 0)
        if after is None:
            raise NotBatched("one user's parameters are not finite after a few steps")
        return {name: tensor.clone() for name, tensor in after.tensors.items()}

    def _trained(
        self, cohorts: Cohorts, users: Sequence[UserSamples], calls: Sequence[Call], seed: int
    ) -> list[UserParameters | None]:
        for user in users:
            if not alike(self._kwargs, user.kwargs) or user.y.shape[1:] != self._tail:
                raise NotBatched("train_kwargs or shapes of targets differ from user to user")
        data = [(self._inputs(user.x), self._targets(user.y)) for user in users]
        batches = [user.batches for user in users]
        return cohorts.train(data, batches, calls, seed)

    def _inputs(self, x: Tensor) -> Tensor:
        return x if self._head is None else self._head(x)

    def _targets(self, y: Tensor) -> Tensor:
        if self._labels:
            return class_labels(y)
        return y[:, None] if y.ndim == 1 and y.is_floating_point() else y


def own_method(model: PyTorchModel) -> str:
    """The first method of a subclass, or of the object, that a cohort would pass by; or ""."""
    for name in METHODS:
        if name in vars(model) or getattr(type(model), name) is not getattr(PyTorchModel, name):
            return name
    return ""


def _check_model(model: PyTorchModel) -> None:
    """Raise NotBatched for what a model does besides its module's forward and backward pass."""
    if model.amp_context is not None or model.grad_scaler is not None:
        raise NotBatched("the model trains in mixed precision (amp_dtype)")
    if hasattr(model.pytorch_model, "_orig_mod"):
        raise NotBatched("the module is compiled (use_torch_compile)")
    for name, parameter in model.pytorch_model.named_parameters():
        if parameter.requires_grad != (name in model.variable_map):
            raise NotBatched(f"{name} was frozen or unfrozen after its PyTorchModel was made")
    dtypes = {p.dtype for p in model.variable_map.values()}
    if len(dtypes) != 1 or not dtypes <= set(FLOATS):
        raise NotBatched(f"the parameters are {', '.join(map(str, dtypes))}")
