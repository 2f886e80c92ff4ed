"""`fedfast doctor [CONFIG | MODEL]`: what this machine offers, and how a model will be trained."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from typing import TYPE_CHECKING

from ..own_modules import refused
from . import fail
from .setting import USER, Setting, prepare

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..config import RunConfig
    from ..programs import Program

USAGE = """\
usage: fedfast doctor [CONFIG [--field value ...]]
       fedfast doctor MODEL --input_shape N [N ...] [--classes N] [--option value ...]

Versions and backends found here. With a config its model too, layer by layer; or a model by its
name or as package.module:Name, with options of its own, whose inputs are numbers [B, N, ...].
"""


def main(argv: list[str]) -> int:
    """Runs the command; 0, or 2 for a config that cannot be used."""
    from .. import config as configs

    if argv and argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    print("\n".join(machine()))
    if not argv:
        return 0
    try:
        if _names_a_model(argv[0]):
            found = named_model(argv)
        else:
            config = configs.load(argv[0], argv[1:])
            found = model(config, prepare(config))
    except (configs.ConfigError, *USER) as error:
        return fail(str(error))
    print("\n" + "\n".join(found))
    return 0


def machine() -> list[str]:
    """One line per thing that decides which backend is used."""
    import torch

    from ..kernels import native as _native
    from ..kernels.triton import common
    from ..programs import resident

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    triton = "missing" if common.triton is None else common.triton.__version__
    native = "here" if _native.module is not None else f"missing ({_native.reason})"
    return [
        f"python    {platform.python_version()} ({sys.executable})",
        f"torch     {torch.__version__}, {torch.get_num_threads()} of {os.cpu_count()} threads",
        f"native    {native}, {torch.backends.cpu.get_cpu_capability()}",
        f"triton    {triton}",
        f"resident  {'here' if resident.compiled() else 'missing, built where nvcc is'}",
        f"gpu       {gpu}",
    ]


def model(config: RunConfig, setting: Setting) -> list[str]:
    """Layer by layer: part of a program, or the reason why the module executor will train it."""
    from .setting import simulation

    _, lines = _layers(setting.model, setting.data.train.take(slice(2)).inputs())
    first = next(iter(config.algorithms))
    sim = simulation(config, setting, first)
    lines += [f"memory: {sim.memory}", f"precision of products: {sim.precision}"]
    for label in config.algorithms:
        own = sim if label == first else simulation(config, setting, label)
        lines += [f"{label}: {own.rows}"] if str(own.rows) else []
        if own.eager_because and not own.generic_because:
            lines.append(f"{label}: on CUDA no graph of a step: {own.eager_because}")
        lines += [f"{label}: a client's local steps are one launch"] if own.resident else []
    if not sim.resident:
        lines += [f"products of {layer}: {choice}" for layer, choice in sim.products.items()]
    if sim.generic_because:
        return [*lines, f"module executor, slower: {sim.generic_because}"]
    return [*lines, f"layer program, K = {sim.chunk} clients at once"]


def named_model(argv: list[str]) -> list[str]:
    """The same of a model that no config names. Raises ValueError for wrong options."""
    import torch

    from ..models import build

    given, options = _options(argv)
    with refused("model"):
        shape, classes = given.input_shape, given.classes
        made = build(given.name, input_shape=shape, classes=classes, seed=0, **options)
    kind = torch.int64 if any(isinstance(m, torch.nn.Embedding) for m in made.modules()) else None
    program, lines = _layers(made, torch.zeros(2, *given.input_shape, dtype=kind))
    return [*lines, "layer program" if program else "module executor, slower"]


def _options(argv: list[str]) -> tuple[argparse.Namespace, dict[str, object]]:
    """Input shape and classes, and the model's own options, which are flags of their names."""
    from .. import config as configs

    parser = argparse.ArgumentParser("fedfast doctor", usage=USAGE[7:], exit_on_error=False)
    parser.add_argument("name")
    parser.add_argument("--input_shape", type=int, nargs="+", required=True)
    parser.add_argument("--classes", type=int, default=10)
    try:
        given, rest = parser.parse_known_args(argv)
    except (argparse.ArgumentError, SystemExit) as error:
        raise ValueError(f"{argv[0]}: expected --input_shape and whole numbers") from error
    return given, configs.model_options(given.name, rest)


def _names_a_model(given: str) -> bool:
    from ..models import MODELS

    return not os.path.exists(given) and (":" in given or given in MODELS)


def _layers(module: nn.Module, x: Tensor) -> tuple[Program | None, list[str]]:
    """The program, and a line per layer: part of it, or the reason why not."""
    from ..programs import explain

    program, findings = explain(module, x)
    width = max(len(f.layer) for f in findings)
    return program, [f"{f.layer:{width}}  {f.reason or 'ok'}" for f in findings]
