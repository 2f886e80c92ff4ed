"""Checks at the public door: each error names the argument, what was expected and what came."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._names import unknown
from .algorithms import Algorithm, by_name
from .algorithms._hooks import foreign, overrides
from .algorithms.base import check_combination
from .data import AUGMENTS, Augment, FederatedData, Samples, as_samples
from .generic import Loss, Traits, probe
from .schedule import Schedule


def integer(name: str, value: object) -> None:
    """An int, not a bool."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer; got {value!r}")


def positive_int(name: str, value: Any) -> None:
    """An int >= 1."""
    integer(name, value)
    if value < 1:
        raise ValueError(f"{name}: expected at least 1; got {value}")


def number(
    name: str, value: Any, above: float | None = None, at_least: float | None = None
) -> None:
    """A finite number, > `above` or >= `at_least`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a number; got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number; got {value}")
    if above is not None and value <= above:
        raise ValueError(f"{name}: expected a number above {above:g}; got {value}")
    if at_least is not None and value < at_least:
        raise ValueError(f"{name}: expected a number >= {at_least:g}; got {value}")


def fraction(name: str, value: Any) -> None:
    """A number in (0, 1]."""
    number(name, value)
    if not 0 < value <= 1:
        raise ValueError(f"{name}: expected a share in (0, 1]; got {value}")


def optional(check: Callable[..., None], name: str, value: Any, **bounds: float) -> None:
    """None, or what `check` accepts."""
    if value is not None:
        check(name, value, **bounds)


def memory(value: Any) -> None:
    """ "auto", or GiB > 0."""
    if value != "auto":
        if isinstance(value, str):
            raise ValueError(f"memory: expected 'auto' or a number of GiB; got {value!r}")
        number("memory", value, above=0.0)


def one_of(name: str, value: Any, known: Sequence[str]) -> None:
    """One of the known words."""
    if value not in known:
        raise unknown(name, str(value), known)


def device(value: str | torch.device) -> torch.device:
    """A torch device that is here; "auto" is CUDA where there is one."""
    if value == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(value)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device: expected 'auto', 'cpu' or 'cuda'; got {value!r}") from error
    if found.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected 'auto', 'cpu' or 'cuda'; got {value!r}")
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device: {value!r} asked for, but torch finds no CUDA device here")
    return found


def dtype(value: torch.dtype) -> torch.dtype:
    """float32 or float64."""
    if value not in (torch.float32, torch.float64):
        raise ValueError(
            f"dtype: expected torch.float32 or torch.float64; got {value!r} "
            "(half precision loses the small steps that clients add up)"
        )
    return value


def algorithm(value: Algorithm | str) -> Algorithm:
    """An algorithm object, or one by name."""
    if isinstance(value, str):
        return by_name(value)
    if not isinstance(value, Algorithm):
        raise TypeError(
            f"algorithm: expected a name or an object of fedfast.algorithms; got {value!r}"
        )
    check_combination(value)  # hooks may have been given to its classes since it was made
    return value


def client_decay(value: Algorithm, per: str, decay: float) -> float:
    """The factor on a client's own rate per local epoch it has done, 1 where it has none."""
    one_of("lr_decay_per", per, ("round", "client_epoch"))
    own = value.client_decay
    if per == "round" or decay == 1.0:
        return own
    if own != 1.0:
        raise ValueError(
            f"lr_decay_per: expected one decay per client_epoch; got lr_decay {decay} of the run "
            f"and {own} of {value.name}"
        )
    if overrides(value, "rate", Algorithm) and foreign(value):
        raise ValueError(
            f"lr_decay_per: expected 'round' under {type(value).__name__}, which has a rate of its "
            f"own; got {per!r}"
        )
    return decay


def callbacks(value: Any) -> tuple[Callable[..., object], ...]:
    """A sequence of callables."""
    if callable(value) or not all(callable(f) for f in value):
        raise TypeError(f"callbacks: expected a sequence of callables f(sim, row); got {value!r}")
    return tuple(value)


def learning_rate(lr: Any, decay: float) -> Callable[[int], float]:
    """Round -> learning rate."""
    if callable(lr):
        if decay != 1.0:
            raise ValueError("lr_decay: a callable lr decides alone; leave lr_decay at 1")
        return lambda t: _rate(lr, t)
    number("lr", lr, above=0.0)
    return lambda t: lr * decay**t


def _rate(schedule: Callable[[int], float], t: int) -> float:
    """The schedule's learning rate in round `t`; 0 would leave the clients' state undefined."""
    found = float(schedule(t))
    number(f"lr in round {t}", found, above=0.0)
    return found


def loss(value: str | Loss) -> Loss:
    """(logits, targets) -> scalar."""
    if value == "cross_entropy":
        return F.cross_entropy
    if isinstance(value, str):
        raise unknown("loss", value, ("cross_entropy",))
    if not callable(value):
        raise TypeError(f"loss: expected 'cross_entropy' or a callable; got {value!r}")
    return value


def clients(value: FederatedData, empty: str) -> FederatedData:
    """Federated data with somebody to train; clients without samples are skipped or refused."""
    if not isinstance(value, FederatedData):
        raise TypeError(
            "clients: expected FederatedData (from a partition, or "
            f"FederatedData.from_arrays([x0, ...], [y0, ...])); got {type(value).__name__}"
        )
    without = np.flatnonzero(value.sizes == 0)
    if len(without) == value.num_clients:
        raise ValueError("clients: nobody has a sample")
    if len(without) and empty == "refuse":
        raise ValueError(
            f"clients: {len(without)} of {value.num_clients} have no samples (the first is client "
            f"{without[0]}); partition again, or empty_clients='skip'"
        )
    if len(without):
        warnings.warn(
            f"{len(without)} of {value.num_clients} clients have no samples and are never sampled",
            stacklevel=3,
        )
    return value


def model(
    value: nn.Module, data: FederatedData, device: torch.device, dtype: torch.dtype
) -> tuple[nn.Module, Traits]:
    """(a copy on the device, what a trial step told about it)."""
    if not isinstance(value, nn.Module):
        raise TypeError(f"model: expected an nn.Module; got {type(value).__name__}")
    for name, m in value.named_modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.momentum is None:
            raise ValueError(
                f"model: {name} averages over all batches ever seen (momentum=None), which has no "
                "meaning across clients; give it a momentum"
            )
    if not any(p.requires_grad for p in value.parameters()):
        raise ValueError("model: it has no parameter to train")
    sample = data.order[:2]
    traits = probe(value, data.bank.take(sample).inputs(dtype))
    return deepcopy(value).to(device=device, dtype=dtype), traits


def labels(name: str, y: Tensor, classes: int, loss: str | Loss) -> None:
    """Labels a classifier with that many outputs can learn."""
    if loss == "cross_entropy" and len(y) and int(y.max()) >= classes:
        raise ValueError(
            f"{name}: label {int(y.max())} is out of range for a model with {classes} outputs"
        )


def test(
    value: object,
    data: FederatedData,
    classes: int | None,
    loss: str | Loss | None,
    device: torch.device,
    dtype: torch.dtype,
) -> Samples | None:
    """The test set on the device, shaped like the clients' data."""
    if value is None:
        return None
    samples = as_samples(value, "test")
    if samples.x.shape[1:] != data.x.shape[1:]:
        raise ValueError(
            f"test: expected samples of shape {list(data.x.shape[1:])}; "
            f"got {list(samples.x.shape[1:])}"
        )
    if classes is not None and loss is not None:
        labels("test", samples.y, classes, loss)
    if samples.x.dtype != data.x.dtype and torch.uint8 in (samples.x.dtype, data.x.dtype):
        raise ValueError(
            f"test: expected {data.x.dtype} as the clients' data; got {samples.x.dtype}"
        )
    return replace(samples, normalize=samples.normalize or data.normalize).to(device, dtype)


def augment(value: Any, data: FederatedData) -> Augment | None:
    """An `Augment`, or one by name, where the data are images of bytes."""
    if value is None:
        return None
    if isinstance(value, str):
        one_of("augment", value, tuple(AUGMENTS))
        value = AUGMENTS[value]
    if not isinstance(value, Augment):
        raise TypeError(f"augment: expected a name or a fedfast.data.Augment; got {value!r}")
    if data.x.dtype != torch.uint8 or data.x.ndim != 4:
        raise ValueError(
            "augment: expected images of bytes, uint8 [n, C, H, W]; got "
            f"{data.x.dtype} {list(data.x.shape)}"
        )
    return value


def schedule(
    value: Schedule | None,
    sizes: np.ndarray,
    rounds: int,
    participation: float,
    local_epochs: int,
    batch_size: int | None,
    seed: int,
    sampling: str,
) -> Schedule:
    """The given schedule, checked against the data, or one drawn from the seed."""
    if value is None:
        return Schedule.draw(
            sizes,
            rounds=rounds,
            participation=participation,
            local_epochs=local_epochs,
            batch_size=batch_size,
            seed=seed,
            sampling=sampling,
        )
    if not isinstance(value, Schedule):
        raise TypeError(f"schedule: expected a fedfast.Schedule; got {type(value).__name__}")
    value.check(sizes)
    return value


@contextmanager
def own_random_state(random: bool) -> Iterator[None]:
    """Leave the user's generators as they were, where the module draws from them."""
    if not random:
        yield
        return
    with torch.random.fork_rng():
        yield
