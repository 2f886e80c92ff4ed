"""`fedfast scale CONFIG --clients A,B --cohort C,D`: what rounds of other sizes take."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import fail, opening, stopping
from .numbers import number, numbers, positive, words
from .prediction import predict
from .setting import USER

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..config.draft import Draft
    from ..scaling.launchers import Limits
    from ..scaling.rows import ScaleRow
    from ..scaling.study import Study
    from ..sweep.outcome import Launcher

USAGE = """\
usage: fedfast scale CONFIG [options] [--field value ...]
       fedfast scale CONFIG | FOLDER --predict clients=N,cohort=C[,algorithm=A][,ranks=G] ...

Times rounds of every size, each in a process of its own, one after another: clients and samples
per second, memory, where the time goes and what part of the machine's bandwidth or FLOP rate that
is. Populations are made of the config's clients, dealt out again. Then a cost model is fitted,
which predicts sizes and machines that were not run. The same command goes on where it was stopped,
and rows of earlier calls count as well.

  --clients A,B,C         clients there are (default 1000,10000)
  --cohort A,B,C          clients that train in a round (default 10,100)
  --ranks A,B             processes of a run, by torch.distributed (default 1)
  --algorithms A,B        labels of the config, or names (default: all of the config)
  --held-out N            rows of other sizes that the model is checked against (default 6)
  --rounds N              rounds that are timed at most, of few clients more (default 20)
  --seconds S             no more are begun after so many (default 1)
  --repeats N             a row is visited again, after all others, until its two fastest visits
                          agree within 5 %; so often at most (default 4)
  --launcher local|ray    here (default), or a Ray cluster: RAY_ADDRESS, or one started here
  --out FOLDER            where rows are kept (default runs/<name of CONFIG>-scale)
  --field value           as of `fedfast run`: --threads 2, --batch_size 20, ...

  --predict SIZE          what a round would take, by the model of an earlier call. SIZE is
                          clients=N,cohort=C and perhaps algorithm=A, ranks=G, threads=T,
                          rounds=R (of the run, 20); another machine by bandwidth=BYTES/S,
                          flops=FLOP/S, call=SECONDS
"""
CHOICES = {"launcher": ("local", "ray")}  # what TAB offers
WIDE = 120  # characters
SIZES = {"clients": "1000,10000", "cohort": "10,100", "ranks": "1"}


def main(argv: list[str]) -> int:
    """Runs the command; 0, 1 where a row failed, 2 for wrong use, 130 or 143 when stopped."""
    from ..config import ConfigError

    if (status := opening(argv, USAGE, "the path of a config file")) is not None:
        return status
    try:
        ours, flags = _parser().parse_known_args(argv[1:])
        if ours.predict is not None:
            return predict(argv[0], ours)
        draft = _draft(argv[0], flags, ours.algorithms)
        return _scale(draft, ours, " ".join(["fedfast scale", *argv]))
    except BrokenPipeError:  # nobody reads on, which is no mistake to be told
        raise
    except (ConfigError, *USER) as error:
        return fail(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "fedfast scale", usage=USAGE[7:], add_help=False, allow_abbrev=False
    )
    for name, default in SIZES.items():
        parser.add_argument(f"--{name}", default=default)
    for name in ("algorithms", "out", "predict"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--held-out", default="6", dest="held_out")
    parser.add_argument("--rounds", default="20")
    parser.add_argument("--seconds", default="1")
    parser.add_argument("--repeats", default="4")
    parser.add_argument("--launcher", default="local")
    return parser


def _draft(path: str, flags: Sequence[str], algorithms: str | None) -> Draft:
    """The config with the algorithms that were asked for."""
    from ..config.draft import Draft

    draft = Draft.read(path, flags)
    if algorithms is None:
        return draft
    known = draft.raw.get("algorithms")
    held = known if isinstance(known, dict) else {}
    chosen = {name: held.get(name) for name in words("--algorithms", algorithms)}
    given = dict(draft.given)
    given.update({("algorithms", name): "--algorithms" for name in chosen})
    return replace(draft, raw={**draft.raw, "algorithms": chosen, "sweep": None}, given=given)


def _scale(draft: Draft, ours: argparse.Namespace, command: str) -> int:
    from ..scaling import study
    from ..scaling.launchers import Limits
    from ..scaling.rows import grid, held_out

    config = draft.config()
    out = Path(ours.out or f"runs/{draft.path.stem}-scale")
    sizes = [numbers(f"--{name}", getattr(ours, name)) for name in SIZES]
    rows = grid(out, list(config.algorithms), *sizes)
    if not rows:
        raise ValueError(
            f"--cohort: expected a number from --ranks to --clients, found {ours.cohort}"
        )
    rows += held_out(rows, number("--held-out", ours.held_out, 0), config.seed)
    limits = Limits(number("--rounds", ours.rounds, 1), positive("--seconds", ours.seconds))
    repeats = number("--repeats", ours.repeats, 1)
    launcher = _launcher(ours.launcher, config, out, sizes[2], limits)
    with study.claimed(out, config, command):
        print(f"{len(rows)} row{'s' * (len(rows) > 1)} -> {out}", flush=True)
        machine = study.machine_of(out, config, sizes[2])
        for threads, rates in sorted(machine.rates.items()):
            print(
                f"{threads} thread{'s' * (threads > 1)}: {rates.bandwidth / 1e9:.1f} GB/s, "
                f"{rates.flops / 1e9:.1f} GFLOP/s, {rates.call * 1e6:.2f} us a call",
                flush=True,
            )
        return _measure(study.Study(out, machine, rows, launcher, repeats))


def _measure(study: Study) -> int:
    """Measures, concludes and reports."""
    from ..scaling.study import Progress

    status = 0
    with stopping.sigterm():
        try:
            study.measure(Progress(len(study.rows)))
        except KeyboardInterrupt as error:
            status = stopping.status(error)
        finally:
            study.end()
    return _report(study, status)


def _report(study: Study, status: int) -> int:
    """Tables, figures and files, then a line for each row that failed, and whether it stopped."""
    from rich.console import Console

    from ..scaling.results import tables

    figures = study.conclude()
    console = Console(highlight=False)
    if not console.is_terminal:  # a file, a pipe: nothing is cut
        console.width = WIDE
    for table in tables(list(study.results.values()), study.machine):
        console.print(table)
    for text in study.accuracy():
        print(text)
    files = ["scale.csv", *(["model.json"] if study.model else []), *(p.name for p in figures)]
    print(f"{study.path}\n  {'  '.join(files)}", flush=True)
    for one in study.results.values():
        if one.status == "failed":
            status = max(status, fail(f"{one.row}: {one.error}", 1))
    if status > 1:
        done = sum(study.results[row.name].found is not None for row in study.rows)
        fail(f"stopped with {done} of {len(study.rows)} rows done; the same command goes on")
    return status


def _launcher(
    name: str, config: RunConfig, out: Path, ranks: Sequence[int], limits: Limits
) -> Launcher[ScaleRow]:
    from functools import partial

    from ..scaling.launchers import OneByOne, run_row
    from ..scaling.machine import cores

    if name == "local":
        return OneByOne(limits)
    if name != "ray":
        raise ValueError(f"--launcher: expected local or ray, found {name!r}")
    from ..sweep.ray_pool import RayPool

    out.mkdir(parents=True, exist_ok=True)
    cpus = max(r * (config.threads or max(1, cores() // r)) for r in ranks)
    gpus = float(max(ranks)) if str(config.device).startswith("cuda") else 0.0
    return RayPool(partial(run_row, limits=limits), out, cpus, gpus)
