"""`fedfast doctor [CONFIG ...]`: what this machine offers, and how a model will be trained."""

from __future__ import annotations

import os
import platform
import sys
from typing import TYPE_CHECKING

from . import fail
from .setting import USER, Setting, prepare

if TYPE_CHECKING:
    from ..config import RunConfig

USAGE = """\
usage: fedfast doctor [CONFIG [--field value ...]]

Without a config: the versions and backends found here. With one: its model too, layer by layer.
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

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    triton = "missing" if common.triton is None else common.triton.__version__
    native = "here" if _native.module is not None else f"missing ({_native.reason})"
    return [
        f"python    {platform.python_version()} ({sys.executable})",
        f"torch     {torch.__version__}, {torch.get_num_threads()} of {os.cpu_count()} threads",
        f"native    {native}, {torch.backends.cpu.get_cpu_capability()}",
        f"triton    {triton}",
        f"gpu       {gpu}",
    ]


def model(config: RunConfig, setting: Setting) -> list[str]:
    """Layer by layer: part of a program, or the reason why the generic path will be taken."""
    from ..programs import explain
    from .setting import simulation

    x = setting.data.train.take(slice(2)).inputs()
    _, findings = explain(setting.model, x)
    width = max(len(f.layer) for f in findings)
    lines = [f"{f.layer:{width}}  {f.reason or 'ok'}" for f in findings]
    sim = simulation(config, setting, next(iter(config.algorithms)))
    lines.append(f"memory: {sim.memory}")
    if sim.generic_because:
        return [*lines, f"generic path, slower: {sim.generic_because}"]
    return [*lines, f"layer program, K = {sim.chunk} clients at once"]
