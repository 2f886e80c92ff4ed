"""`Training`: what a ClientApp's train and evaluate functions do, in words that can be batched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from torch import Tensor, nn

from .samples import unpack

Setting = float | str | Callable[[Message, Context], float]


@dataclass(frozen=True, kw_only=True)
class Training:
    """What one client does with a train or an evaluate message.

    model        a module, or a function without arguments that makes one
    data         a function -> (train, validation) DataLoaders, or one for training. Its arguments
                 are filled by name: `partition_id`, `num_partitions`, `context`, `message`; any
                 other one from the message's config or the run config (`batch_size` from
                 "batch-size")
    optimizer    (parameters, lr=...) -> a torch optimizer: `torch.optim.SGD`, a partial of it, or
                 `lambda params, lr: torch.optim.SGD(params, lr, momentum=0.9)`; or an algorithm of
                 fedfast's by name or object, for its local part ("fedsam", `FedSAM(rho=0.05)`)
    loss         (outputs, targets) -> the mean over the batch
    lr, epochs, proximal_mu
                 a number, a function (message, context), or a key that is looked up in the
                 message's config, then in the run config. Not found: the optimizer's own lr, one
                 epoch, no proximal term (`mu / 2 |w - w_global|^2`)
    unpack       batch -> (inputs, targets); by default tuples, lists and dicts
    metrics      evaluate's own metrics: name -> function (outputs, targets) -> number, over all
                 samples of the validation loader
    seed         of what torch draws on a node, with the partition's number and its train messages
    cache_bytes  of samples that are kept across rounds; beyond it the longest unused are read anew
    """

    model: nn.Module | Callable[[], nn.Module]
    data: Callable[..., object]
    optimizer: object = torch.optim.SGD
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    lr: Setting = "lr"
    epochs: Setting = "local-epochs"
    proximal_mu: Setting = 0.0
    unpack: Callable[[object], tuple[Tensor, Tensor]] = unpack
    metrics: Mapping[str, Callable[[Tensor, Tensor], float]] = field(default_factory=dict)
    seed: int = 0
    cache_bytes: int = 4 << 30

    def __post_init__(self) -> None:
        for name in ("data", "loss", "unpack"):
            if not callable(value := getattr(self, name)):
                raise TypeError(f"{name}: expected a function; got {value!r}")
        if not (isinstance(self.model, nn.Module) or callable(self.model)):
            raise TypeError(f"model: expected a module or what makes one; got {self.model!r}")
        if not (callable(self.optimizer) or isinstance(self.optimizer, str)) and isinstance(
            self.optimizer, torch.optim.Optimizer
        ):
            raise TypeError("optimizer: expected a class or a partial of it, not an optimizer")

    def network(self) -> nn.Module:
        """A module of the declared architecture, the caller's own, in training mode."""
        made = deepcopy(self.model) if isinstance(self.model, nn.Module) else self.model()
        if not isinstance(made, nn.Module):
            raise TypeError(f"model: expected a function that makes a module; it gave {made!r}")
        return made.train()


_declared: WeakKeyDictionary[ClientApp, Training] = WeakKeyDictionary()


def declare(app: ClientApp, training: Training | None = None, **fields: object) -> Training:
    """Say what `app`'s functions do: a `Training`, or its fields by name.

    Raises TypeError naming the argument.
    """
    if not isinstance(app, ClientApp):
        raise TypeError(f"app: expected a ClientApp; got {app!r}")
    made = Training(**fields) if training is None else training  # type: ignore[arg-type]
    _declared[app] = made
    return made


def declared(app: ClientApp) -> Training | None:
    """What was declared of an app."""
    return _declared.get(app)
