"""The model that pfl's algorithms see in a round whose users have trained already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from pfl.context import LocalResultMetaData
from pfl.data.dataset import AbstractDataset
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, StringMetricName
from pfl.model.pytorch import PyTorchModel
from pfl.stats import MappedVectorStatistics

from .expected_calls import Call
from .module_state import changed, module_state
from .statistics import RowStatistics
from .user_parameters import UserParameters

Trained = tuple[Call, UserParameters]  # a call, and the parameters after it


class RoundModel(PyTorchModel):
    """A `PyTorchModel` whose local epochs have been done; pfl's algorithms run on it unchanged.

    `do_multiple_epochs_of` compares the call with the one that was expected and takes the
    parameters trained for it; differences are taken from them. The module is written only where
    something reads it: an evaluation after training, or a call that was not expected, which is
    trained by pfl's own loop.

    unexpected        told of such a call
    own               whether the algorithm is pfl's own code; another may change the module before
                      and after, through no method of this class
    returned_at_once  whether the algorithm returns a difference as it is: then nothing is computed
                      before somebody reads it
    """

    def __init__(
        self,
        model: PyTorchModel,
        unexpected: Callable[[], None],
        own: bool,
        returned_at_once: bool,
    ) -> None:
        self._real, self._unexpected = model, unexpected
        self._own, self._state = own, None if own else module_state(model.pytorch_model)
        self._returned_at_once = returned_at_once
        self._user: AbstractDataset | None = None
        self._trained: list[Trained] = []
        self._initial: MappedVectorStatistics | None = None  # the module's, as pfl copied them
        self._pending: UserParameters | None = None  # the user's, not in the module yet
        self._returned: RowStatistics | None = None  # the user's, as the algorithm got them
        self._counted: NNTrainHyperParams | None = None  # whose steps are known, by size
        self._steps: dict[int, int] = {}
        self._moved = False  # whether the module holds others than the initial ones

    def begin(self, user: AbstractDataset, trained: Sequence[Trained]) -> None:
        """The next user; `trained` is empty where pfl's loop is to train it."""
        self._user, self._trained = user, list(trained)

    def end(self) -> None:
        """The user's algorithm has run; calls that it did not make were not expected of it."""
        if self._trained:
            self._unexpected()
        if self._returned is not None:
            self._returned.finish()
            self._returned = None

    @property
    def buffers(self) -> MappedVectorStatistics:
        """What `get_model_difference` returns, for every user the same tensors."""
        return self._real._model_diff

    @property
    def device(self) -> torch.device:
        """Of the parameters."""
        return next(iter(self._real.variable_map.values())).device

    def difference(self, user: UserParameters) -> MappedVectorStatistics:
        """Of a user's parameters from the module's, in tensors of its own."""
        variables = self._real.variable_map.items()
        return MappedVectorStatistics({n: user.tensors[n] - v.detach() for n, v in variables})

    def do_multiple_epochs_of(
        self,
        user_dataset: AbstractDataset,
        train_params: NNTrainHyperParams,
        train_step_fn: Callable[..., None],
        **kwargs: object,
    ) -> LocalResultMetaData:
        """Take what was trained for this call, or train."""
        if self._trained and self._is_initial and self._user is user_dataset:
            call, parameters = self._trained[0]
            made = call.is_made_by(train_step_fn, train_params, kwargs)
            if made and (self._own or self._is_untouched(kwargs)):
                self._trained, self._pending = self._trained[1:], parameters
                if not self._own:
                    self._settle()
                return LocalResultMetaData(num_steps=self._num_steps(train_params))
        if self._trained:
            self._trained = []
            self._unexpected()
        self._settle()
        self._moved = True
        return self._real.do_multiple_epochs_of(user_dataset, train_params, train_step_fn, **kwargs)

    def _is_untouched(self, terms: Mapping[str, object]) -> bool:
        """Whether the module is as at the start of the round, and FedProx draws towards that."""
        assert self._initial is not None and self._state is not None
        start, variables = self._initial, self._real.variable_map
        towards = terms.get("global_weights", start)
        assert isinstance(towards, Mapping | MappedVectorStatistics)
        return not changed(self._state, self._real.pytorch_model) and all(
            torch.equal(start[name], value) and torch.equal(start[name], towards[name])
            for name, value in variables.items()
        )

    def _num_steps(self, params: NNTrainHyperParams) -> int:
        """As pfl counts them; users of a round share parameters, and many a size."""
        assert self._user is not None
        n = len(self._user)
        if self._counted is not params:
            self._counted, self._steps = params, dict[int, int]()
        if n not in self._steps:
            self._steps[n] = self._real._get_local_num_steps(params, n)
        return self._steps[n]

    def get_parameters(
        self, placeholders: MappedVectorStatistics | None = None
    ) -> MappedVectorStatistics:
        """As pfl's; those at the start of a round are copied once, not for every user."""
        if placeholders is not None and placeholders is self._initial and self._is_initial:
            return placeholders
        first = self._is_initial and (self._initial is None or placeholders is not None)
        self._settle()
        parameters = self._real.get_parameters(placeholders)
        if first:
            self._initial = parameters
        return parameters

    @property
    def _is_initial(self) -> bool:
        return self._pending is None and not self._moved

    def set_parameters(self, w: MappedVectorStatistics) -> None:
        """As pfl's; nothing is copied where the module holds them."""
        self._pending = None
        if w is self._initial and not self._moved:
            return
        self._real.set_parameters(w)
        self._moved = w is not self._initial

    @torch.no_grad()
    def get_model_difference(
        self, other_parameters: MappedVectorStatistics, clone: bool = False
    ) -> MappedVectorStatistics:
        """As pfl's, in the same buffers, which the next user's difference overwrites."""
        user = self._pending
        if user is None:
            return self._real.get_model_difference(other_parameters, clone)
        kept = MappedVectorStatistics() if clone else self._rows_of(user)
        if isinstance(kept, RowStatistics) and other_parameters is self._initial:
            difference = RowStatistics(dict(kept.items()), user=user, row=kept.row)
            self._returned = difference
            if not self._returned_at_once:
                difference.values()
            return difference
        for name, variable in self._real.variable_map.items():
            if name not in kept:
                kept[name] = torch.empty_like(variable, dtype=torch.float32)
            torch.sub(user.tensors[name], other_parameters[name], out=kept[name])
        return MappedVectorStatistics(dict(kept.items()))

    def _rows_of(self, user: UserParameters) -> MappedVectorStatistics:
        """pfl's buffers of differences; views of one row, where they are made here."""
        if not len(self._real._model_diff):
            width = user.layout.trained
            row = torch.zeros(width, dtype=torch.float32, device=self.device)
            views = user.layout.views(row, trained_only=True)
            named = {name: views[name] for name in self._real.variable_map}
            self._real._model_diff = RowStatistics(named, row=row)
        return self._real._model_diff

    def evaluate(
        self,
        dataset: AbstractDataset,
        name_formatting_fn: Callable[[str], StringMetricName] = StringMetricName,
        eval_params: NNEvalHyperParams | None = None,
    ) -> Metrics:
        """As pfl's, with the user's parameters in the module."""
        self._settle()
        return self._real.evaluate(dataset, name_formatting_fn, eval_params)

    def _settle(self) -> None:
        """Write the user's parameters to the module."""
        if self._pending is not None:
            self._real.set_parameters(self._pending.tensors)
            self._pending, self._moved = None, True

    def __getattr__(self, name: str) -> object:
        """Whatever else there is, of the real model; it may read the module."""
        if name == "_real":
            raise AttributeError(name)
        self._settle()
        return getattr(self._real, name)
