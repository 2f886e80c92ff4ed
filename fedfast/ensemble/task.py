"""What the first batch tells: the layout of rows, the layer program, the loss made ready."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import losses
from ..constants import cast
from ..copies import copy_of
from ..executor import Executor
from ..kernels import registry
from ..kernels.plan import forget_recording
from ..layout import FlatLayout
from ..losses import Loss
from ..lowering import program_for, warn_once
from ..model_inspection import Traits, inspect_model, refused
from ..module_executor import ModuleExecutor
from ..programs import Program, ProgramExecutor
from ..programs.verify import Subject, difference, spread
from .members import differing
from .options import Options

TRIED = 16  # samples that a loss is tried on


@dataclass(frozen=True)
class Architecture:
    """What K modules have in common.

    module  model 0, on the device and in the dtype of the rows; traits: what a trial step found
    x       [2, ...] samples
    """

    module: nn.Module
    traits: Traits
    layout: FlatLayout
    x: Tensor
    options: Options

    @classmethod
    def of(cls, modules: list[nn.Module], x: Tensor, options: Options) -> Architecture:
        """x  [n, ...] samples, as models are given them"""
        pair = x[:2] if len(x) > 1 else x[[0, 0]]
        traits = inspect_model(modules[0], pair)
        # What models do not share has a place in each one's row, constant or not.
        traits = replace(traits, moving=traits.moving | differing(modules))
        module = cast(copy_of(modules[0]), options.device, options.dtype)
        layout = FlatLayout.of(module, options.dtype, traits.moving)
        return cls(module, traits, layout, pair.clone(), options)

    def rows(self, modules: list[nn.Module]) -> Tensor:
        """The tensors of all modules. [K, S]"""
        return torch.stack([self.layout.flatten(m, self.options.device) for m in modules])


@dataclass(frozen=True)
class Training:
    """What computes gradients.

    program  None where the module is trained, for the `reason`
    loss     (outputs, targets) -> scalar; labels: whether its targets are classes
    """

    architecture: Architecture
    loss: Loss
    program: Program | None
    reason: str
    random: bool

    @classmethod
    def of(cls, architecture: Architecture, row: Tensor, x: Tensor, y: Tensor) -> Training:
        """x [n, ...], y [n, ...]  of one model, whose row [S] is verified with"""
        given = architecture.options
        loss, random = _loss(architecture, x, y)
        forget_recording()  # which a signal may have left behind
        module, layout = architecture.module, architecture.layout
        program, reason = program_for(module, layout, given.loss, architecture.x)
        if program is not None and given.verify:
            some = spread(len(x))
            subject = Subject(module, layout, row, x[some], given.backend)
            if found := difference(subject, program, y[some]):
                program, reason = None, found
        if program is None:
            warn_once(reason)
        return cls(architecture, loss, program, reason, random or architecture.traits.random)

    def executor(self, count: int, width: int) -> Executor:
        """Of K models with batches of `width` samples each."""
        architecture, given = self.architecture, self.architecture.options
        module, layout = architecture.module, architecture.layout
        if self.program is not None:
            how = given.device, given.backend, given.precision
            return ProgramExecutor(self.program, layout, count, width, *how)
        traits = replace(architecture.traits, random=self.random)
        threads, precision = torch.get_num_threads(), given.precision
        return ModuleExecutor(module, layout, self.loss, threads, traits, precision=precision)


def loss_of(options: Options) -> Loss:
    """(outputs, targets) -> scalar, its tensors on the run's device."""
    if isinstance(options.loss, str):  # the one name that options leave a name
        return F.cross_entropy
    return losses.ready(options.loss, options.device, options.dtype)


def _loss(architecture: Architecture, x: Tensor, y: Tensor) -> tuple[Loss, bool]:
    """The loss, tried on the model's outputs, and whether it draws random numbers."""
    options, loss = architecture.options, loss_of(architecture.options)
    x, y = x[:TRIED], y[:TRIED]
    registry.choose(options.backend, x.new_empty(0, dtype=options.dtype))
    with refused(x, " in evaluation mode"), torch.no_grad(), torch.random.fork_rng():
        outputs = copy_of(architecture.module).eval()(x.clone())
    if options.loss == "cross_entropy":
        if outputs.ndim != 2:
            raise ValueError(f"model: expected logits [n, classes]; got {list(outputs.shape)}")
        return loss, False
    found = losses.Tried(loss, outputs, False)
    if bool(outputs.isfinite().all()):
        found = losses.tried(loss, outputs, y)
    found.check_labels("y", y)
    return loss, found.random
