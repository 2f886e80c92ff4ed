"""`Cohort`, `Sum`, `ServerView`: what hooks see and ask for at the end of a round."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from .client_view import Rows


@dataclass(frozen=True)
class Cohort:
    """All clients of a round, in processing order.

    In `sums` numbers are on the host, in hooks after the steps on the device, and those that are
    known before the steps in `on_host` too.

    ids         [C] client ids
    sizes       [C] float64, samples of each
    steps       [C] float64, local steps of each
    weights     [C] float64, the p_k of the mean (they sum to 1, but for FedSGD's sum)
    lr          learning rate of the round; perhaps one for each client, see `Clients`
    epochs      local epochs of the run; perhaps those of each client
    lr_total    [C] float64, each client's learning rates summed over its steps (K eta)
    population  N
    seed        of the run
    backend     implementation of the operations
    decay       see `Clients.decay`
    train_loss  [C] float64, mean losses over the local steps; in `reweigh` and `settle`
    start_loss  [C] float64, losses of the model sent, on all local samples, for who reads it
    numbers     what `finish` returned, [C, ...] by name; in `reweigh` and `settle`
    known       the same clients as they were before the steps, on the host
    """

    round: int
    lr: float | Tensor
    ids: np.ndarray
    sizes: Tensor
    steps: Tensor
    weights: Tensor
    lr_total: Tensor
    epochs: int | Tensor
    population: int
    seed: int
    backend: str
    decay: float = 1.0
    train_loss: Tensor | None = None
    start_loss: Tensor | None = None
    numbers: Rows = field(default_factory=dict)
    known: Cohort | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def on_host(self) -> Cohort:
        """The same with its numbers on the host: nobody waits for the device to read them."""
        return self if self.known is None else self.known


@dataclass(frozen=True)
class Sum:
    """A server row's rule at the end of a round: `row <- keep * row + sum_k weights_k * what_k`.

    weights  [C] float64, in processing order
    fade     what `keep` loses for every client that did not diverge
    of       None: the client's update `v_K - start`; else the name of a client or scratch row
    change   with `of`: what the row changed by in this round, not the row itself
    """

    row: str
    weights: Tensor
    keep: float = 1.0
    fade: float = 0.0
    of: str | None = None
    change: bool = False


class ServerView:
    """What the server holds between rounds, as components see it: the model, rows and scalars.

    w        [trained], the global model
    m        [trained], the server rule's momentum, where it has one
    rows     [trained] by name
    values   small tensors by name
    scalars  numbers by name
    pending  those of the device's that are read when the round ends; see `settle_scalar`
    """

    w: Tensor
    m: Tensor | None
    rows: dict[str, Tensor]
    values: dict[str, Tensor]
    scalars: dict[str, float]
    pending: dict[str, Tensor]

    def settle_scalar(self, name: str, value: Tensor) -> None:
        """Set a scalar to `value`, a tensor of one element.

        One of a device's is read together with all that the host reads of the round: nobody waits
        for it before, and until then `scalars` does not have it. Raises ValueError for a name that
        is no scalar of the server's and for other tensors.
        """
        if name not in (*self.scalars, *self.pending):
            raise ValueError(f"name: expected one of {', '.join(self.scalars)}; got {name!r}")
        if value.numel() != 1:
            raise ValueError(f"value: expected one number; got a tensor of {tuple(value.shape)}")
        if value.device.type == "cpu":
            self.scalars[name] = float(value)
        else:
            self.scalars.pop(name, None)
            self.pending[name] = value.reshape(())
