"""Checks at the public door: each error names the argument, what was expected and what came."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import losses
from .._messages import format_value, unknown
from ..algorithms import Algorithm, by_name
from ..algorithms._hook_checks import foreign, overrides
from ..algorithms.base import check_combination
from ..callbacks import callback
from ..client_sampling import Schedule
from ..constants import cast
from ..copies import copy_of, refuse_hooks
from ..data import AUGMENTS, Augment, FederatedData, Samples, as_samples
from ..data.size_limits import check_room
from ..losses import Tried
from ..metrics import Metric, metric_for
from ..model_inspection import Traits, inspect_model, refused, single_sample_trouble
from ..network import Loss
from ..random_state import kept_random_state

TRIED = 16  # samples a callable loss is tried on


def integer(name: str, value: object) -> None:
    """An int, not a bool."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer; got {format_value(value)}")


# Counters of the random numbers have 32 bits, of which a second exchange of a round takes one, and
# an epoch leaves 8 to other purposes; batches are counted in int32.
COUNT = (1 << 31) - 1
INDEX_COPIES = 5  # of a round's batch indices while they are cut
AT_MOST = {"local_epochs": (1 << 24) - 1, "threads": 4096}


def positive_int(name: str, value: Any) -> None:
    """An int >= 1, and at most what the run can count to."""
    integer(name, value)
    if value < 1:
        raise ValueError(f"{name}: expected at least 1; got {format_value(value)}")
    most = AT_MOST.get(name, COUNT)
    if value > most:
        raise ValueError(f"{name}: expected at most {most:,}; got {_brief(value)}")


def _brief(value: int) -> str:
    """An integer as messages show it: Python refuses to write very long ones."""
    return str(value) if abs(value) < 10**20 else f"an integer of {value.bit_length()} bits"


def number(
    name: str, value: Any, above: float | None = None, at_least: float | None = None
) -> None:
    """A finite number, > `above` or >= `at_least`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a number; got {format_value(value)}")
    if isinstance(value, int) and value.bit_length() > 1023:
        raise ValueError(f"{name}: expected a number that a float can hold; got {_brief(value)}")
    if not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number; got {format_value(value)}")
    if above is not None and value <= above:
        raise ValueError(f"{name}: expected a number above {above:g}; got {format_value(value)}")
    if at_least is not None and value < at_least:
        raise ValueError(f"{name}: expected a number >= {at_least:g}; got {format_value(value)}")


def fraction(name: str, value: Any) -> None:
    """A number in (0, 1]."""
    number(name, value)
    if not 0 < value <= 1:
        raise ValueError(f"{name}: expected a share in (0, 1]; got {format_value(value)}")


def optional(check: Callable[..., None], name: str, value: Any, **bounds: float) -> None:
    """None, or what `check` accepts."""
    if value is not None:
        check(name, value, **bounds)


def memory(value: Any) -> None:
    """ "auto", or GiB > 0."""
    if not isinstance(value, str) or value != "auto":
        if isinstance(value, str):
            raise ValueError(
                f"memory: expected 'auto' or a number of GiB; got {format_value(value)}"
            )
        number("memory", value, above=0.0)


def one_of(name: str, value: Any, known: Sequence[str]) -> None:
    """One of the known words."""
    if not isinstance(value, str) or value not in known:
        raise unknown(name, value, known)


def device(value: str | torch.device) -> torch.device:
    """A torch device that is here; "auto" is CUDA where there is one."""
    if isinstance(value, str) and value == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        if not isinstance(value, (str, torch.device)):
            raise TypeError
        found = torch.device(value)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device: expected 'auto', 'cpu' or 'cuda'; got {format_value(value)}"
        ) from error
    if found.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected 'auto', 'cpu' or 'cuda'; got {format_value(value)}")
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device: {value!r} asked for, but torch finds no CUDA device here")
    return found


def dtype(value: torch.dtype) -> torch.dtype:
    """float32 or float64."""
    if not isinstance(value, torch.dtype) or value not in (torch.float32, torch.float64):
        raise ValueError(
            f"dtype: expected torch.float32 or torch.float64; got {format_value(value)} "
            "(half precision loses the small steps that clients add up)"
        )
    return value


def algorithm(value: Algorithm | str) -> Algorithm:
    """An algorithm object, or one by name."""
    if isinstance(value, str):
        return by_name(value)
    if not isinstance(value, Algorithm):
        raise TypeError(
            "algorithm: expected a name or an object of fedfast.algorithms; "
            f"got {format_value(value)}"
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


def _all_callable(values: Iterable[Any]) -> bool:
    try:
        return all(callable(value) or isinstance(value, str) for value in values)
    except TypeError:  # a 0-d array says that it is iterable
        return False


def callbacks(value: Any) -> tuple[Callable[..., object], ...]:
    """A sequence of callables, or of their names."""
    single = isinstance(value, str) or callable(value)
    if single or not isinstance(value, Iterable) or not _all_callable(value):
        raise TypeError(
            f"callbacks: expected a sequence of callables f(sim, row); got {format_value(value)}"
        )
    return tuple(map(callback, value))


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
    try:
        found = float(schedule(t))
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"lr: expected a number in round {t}; got an error ({error})") from error
    number(f"lr in round {t}", found, above=0.0)
    return found


def loss(value: str | Loss, device: torch.device, dtype: torch.dtype) -> Loss:
    """(outputs, targets) -> scalar; a copy on the device where it holds tensors."""
    if isinstance(value, str):
        if value == "cross_entropy":
            return F.cross_entropy
        raise unknown("loss", value, ("cross_entropy",))
    losses.check(value)
    return losses.ready(value, device, dtype)


def tried(
    value: str | Loss, loss_fn: Loss, model: nn.Module, data: FederatedData, dtype: torch.dtype
) -> tuple[Tried, Tensor]:
    """(the loss on outputs of the model for some of the data, their targets), all labels checked.

    value    as the user gave it; `loss_fn` as the run takes it
    """
    at = torch.linspace(0, len(data.order) - 1, TRIED, dtype=torch.float64).long().unique()
    part = data.samples.take(data.order[at.to(data.order.device)])
    x = part.inputs(dtype)
    with refused(x, " in evaluation mode"), torch.no_grad(), torch.random.fork_rng():
        outputs = copy_of(model).eval()(x)
    if not isinstance(outputs, Tensor) or outputs.ndim == 0 or len(outputs) != len(x):
        came = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(f"model: expected outputs [{len(x)}, ...] in evaluation mode; got {came}")
    if value == "cross_entropy":
        _classifies(outputs, data.y)
    found = Tried(loss_fn, outputs, False)
    found.check_labels("clients", data.y)
    for i, own in enumerate(data.test or []):
        found.check_labels(f"clients.test[{i}]", own.y)
    kept = part.y != losses.ignored(loss_fn) if part.y.ndim == 1 else slice(None)
    y, outputs = part.y[kept], outputs[kept]
    # Of outputs that are not finite no loss is: the run says that they diverged.
    if value != "cross_entropy" and len(y) and bool(outputs.isfinite().all()):
        found = losses.tried(loss_fn, outputs, y)
    return found, y


def _classifies(outputs: Tensor, y: Tensor) -> None:
    if outputs.ndim != 2:
        raise ValueError(
            f"model: expected logits [{len(outputs)}, classes]; got {list(outputs.shape)}"
        )
    if y.ndim != 1:
        raise ValueError(
            f"clients: expected class labels [n] for the loss 'cross_entropy'; got targets "
            f"{list(y.shape)} {y.dtype}: give a callable loss"
        )


def by_class(algorithm: Algorithm, outputs: Tensor, y: Tensor) -> None:
    """Refuse an algorithm that keeps something per class where targets are no classes.

    outputs  [k, ...] of the model, y [n, ...] all targets
    """
    if not algorithm.local.by_class:
        return
    width = outputs.shape[1] if outputs.ndim == 2 else 0
    if y.ndim != 1 or int(y.max()) >= width:
        raise ValueError(
            f"algorithm: {algorithm.name!r} keeps a distribution per class: expected one output "
            f"per class and class labels [n]; got outputs {['n', *outputs.shape[1:]]} and targets "
            f"{['n', *y.shape[1:]]}"
        )


def metric(value: Any, found: Tried, data: FederatedData, y: Tensor) -> Metric:
    """What tells right predictions from wrong ones; see `fedfast.metrics`."""
    with torch.no_grad(), torch.random.fork_rng():
        made = metric_for(value, found.loss, found.outputs, data.y)
        if len(found.outputs) == len(y):
            made(found.outputs.clone(), y.clone())
    return made


def boolean(name: str, value: object) -> None:
    """True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False; got {format_value(value)}")


def whole_batches(sizes: np.ndarray, batch_size: int | None, empty: str) -> None:
    """What drop_last leaves out: clients with less than one batch are skipped or refused."""
    without = np.flatnonzero((sizes > 0) & (sizes < (batch_size or 0)))
    if len(without) == 0:
        return
    told = (
        f"{len(without)} of {len(sizes)} clients have fewer samples than one batch of {batch_size} "
        f"(the first is client {without[0]} with {sizes[without[0]]})"
    )
    if empty == "refuse":
        raise ValueError(
            f"drop_last: {told}, so that they take no step; take a smaller batch_size, or "
            "empty_clients='skip'"
        )
    if (sizes >= (batch_size or 0)).any():
        warnings.warn(f"drop_last: {told} and are never sampled", stacklevel=3)


def single_samples(
    module: nn.Module, x: Tensor, schedule: Schedule, sizes: np.ndarray, whole: bool
) -> None:
    """Refuse a model that cannot be trained on one sample where some batch has only one.

    x      `[1, ...]`, a sample
    whole  whether all samples of a client are also taken beside the schedule, in batches as wide
    """
    who, width = schedule.single(), schedule.width
    rest = np.flatnonzero((sizes > 0) & ((sizes - 1) % width == 0))
    if not who and whole and len(rest):
        who = f"client {rest[0]} ({sizes[rest[0]]} samples in batches of {width})"
    trouble = single_sample_trouble(module, x) if who else ""
    if trouble:
        raise ValueError(
            f"batch_size: {who} has a batch of one sample, on which the model cannot be trained "
            f"({trouble}); drop_last=True leaves such batches out, or take another batch_size or "
            "a model without BatchNorm there"
        )


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
    refuse_hooks(value)
    sample = data.order[:2]
    traits = inspect_model(value, data.samples.take(sample).inputs(dtype))
    return cast(copy_of(value), device, dtype), traits


def test(
    value: object,
    data: FederatedData,
    found: Tried,
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
    if samples.y.shape[1:] != data.y.shape[1:]:
        raise ValueError(
            f"test: expected targets of shape {['n', *data.y.shape[1:]]} as the clients' data; "
            f"got {list(samples.y.shape)}"
        )
    found.check_labels("test", samples.y)
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
        raise TypeError(
            f"augment: expected a name or a fedfast.data.Augment; got {format_value(value)}"
        )
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
    drop_last: bool,
) -> Schedule:
    """The given schedule, checked against the data, or one drawn from the seed."""
    if value is None:
        _batches_fit(int(sizes.max()), local_epochs)
        return Schedule.draw(
            sizes,
            rounds=rounds,
            participation=participation,
            local_epochs=local_epochs,
            batch_size=batch_size,
            seed=seed,
            sampling=sampling,
            drop_last=drop_last,
        )
    if not isinstance(value, Schedule):
        raise TypeError(f"schedule: expected a fedfast.Schedule; got {type(value).__name__}")
    value.check(sizes)
    return value


def _batches_fit(longest: int, local_epochs: int) -> None:
    """Memory for one client's batches of a round: its permutations and what cuts them, int64."""
    size = INDEX_COPIES * 8 * longest * local_epochs
    check_room(f"local_epochs: batches of {local_epochs:,} epochs of {longest:,} samples", size)


@contextmanager
def own_random_state(random: bool) -> Iterator[None]:
    """Leave the user's generators as they were, where the module draws from them."""
    if not random:
        yield
        return
    with kept_random_state():
        yield
