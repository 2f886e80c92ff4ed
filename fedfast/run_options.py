"""The options of a simulation that a YAML file can hold too; see `local_options`."""

from dataclasses import dataclass
from typing import Annotated

from .local_options import LocalOptions
from .validation.values import Count, Number, OneOf, Share

SAMPLING = OneOf(("exact", "bernoulli"))


@dataclass(frozen=True, eq=False, kw_only=True)
class RoundOptions:
    """How many rounds, of how many clients."""

    rounds: Annotated[int, Count(), "communication rounds"] = 100
    participation: Annotated[
        float,
        Share(),
        "share of the clients that trains in each round",
        "max(1, round(share * clients)) of them",
    ] = 0.1


@dataclass(frozen=True, eq=False, kw_only=True)
class RunOptions(LocalOptions, RoundOptions):
    """Options of plain values, None included. The first text of each is its help."""

    lr_decay: Annotated[float, Number(gt=0), "factor on lr after each round"] = 1.0
    lr_decay_per: Annotated[
        str,
        OneOf(("round", "client_epoch")),
        "lr_decay after each round, or after each local epoch of a client",
        "then every client has a rate of its own, lr * lr_decay**(local epochs that it has done, "
        "in all rounds it took part in)",
    ] = "round"
    sampling: Annotated[
        str,
        SAMPLING,
        "cohorts of exactly that share, or each client with that probability",
        "at least one takes part",
    ] = "exact"
    eval_every: Annotated[
        int,
        Count(),
        "rounds from one test of the global model to the next",
        "on `test` and on the clients' own test parts, where they have some; the last round is "
        "always tested",
    ] = 1
    eval_last: Annotated[
        int, Count(), "so many of the last rounds are tested each", "for means over them"
    ] = 1
    client_metrics: Annotated[
        bool,
        "test losses of each client too, and in a run folder clients.csv of all of them",
        "on the clients' own test parts, in tested rounds; `evaluate_clients()` returns them",
    ] = False
    on_divergence: Annotated[
        str,
        OneOf(("stop", "continue")),
        "when a client's weights are no longer finite: stop, or go on without",
        "either way the row reports it and the global model stays finite",
    ] = "stop"
    empty_clients: Annotated[
        str, OneOf(("skip", "refuse")), "clients without samples: skip them, or refuse to run"
    ] = "skip"
