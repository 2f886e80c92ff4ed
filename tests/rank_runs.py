"""Runs of every algorithm on tiny data, by as many ranks as the environment says; see
`test_ranks.py`. `python rank_runs.py FOLDER`: what they found is saved there.

Processes are forked from one that has imported torch and run nothing.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import torch
from torch import nn

from fedfast import Simulation, algorithms
from fedfast.checkpoint import container
from fedfast.data import FederatedData
from fedfast.distributed import shared
from fedfast.distributed.ranks import RankLost
from fedfast.models import Stochastic

ROUNDS, CLIENTS = 3, 14
NAMES = sorted(algorithms.names())
RESUMED = ("scaffold", "fedala", "fedgloss")
STAGE = {2: 1, 1: 2, 4: 3}  # processes: rounds that are done after them
CONFIG = """
data: {name: digits}
partition: {name: iid, clients: 10}
model: {name: mlp, hidden: [8]}
algorithms: {scaffold: {}}
rounds: 400
save_seconds: 1000
participation: 0.4
batch_size: 10
threads: 1
seed: 0
"""


def federation() -> FederatedData:
    """14 clients of unlike sizes, three classes, with test parts of their own."""
    draw = np.random.default_rng(5)
    sizes = [3 + (7 * i) % 11 for i in range(CLIENTS)]
    xs = [draw.normal(size=(n, 6)).astype(np.float32) for n in sizes]
    ys = [draw.integers(0, 3, n) for n in sizes]
    tests = [(x[:2] + 0.1, y[:2]) for x, y in zip(xs, ys, strict=True)]
    return FederatedData.from_arrays(xs, ys, test=tests)


def model(name: str) -> nn.Module:
    """A head of one layer, as some algorithms need it; FedCR's with noise inside."""
    torch.manual_seed(1)
    if name == "fedcr":
        return Stochastic(nn.Sequential(nn.Linear(6, 8), nn.Tanh()), nn.Linear(4, 3))
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def simulation(name: str, ranks: str | None, **more: Any) -> Simulation:
    """Three rounds of 9 clients, two at a time."""
    given = dict(rounds=ROUNDS, participation=0.65, batch_size=4, lr=0.1, seed=3, chunk=2)
    given |= dict(eval_every=1, local_epochs=2, threads=1, client_metrics=True, ranks=ranks)
    given |= dict(metrics=("cosine", "conflicts", "delta_eps", "norm", "drift", "momentum"))
    if name == "fedsgd":
        given |= dict(batch_size=None, local_epochs=1)
    draw = torch.Generator().manual_seed(0)
    test = torch.randn(20, 6, generator=draw), torch.randint(3, (20,), generator=draw)
    algorithm = algorithms.by_name(name, **more.pop("parameters", {}))
    return Simulation(model(name), federation(), algorithm=algorithm, test=test, **given | more)


def outcome(sim: Simulation) -> dict[str, Any]:
    """What a run leaves: rows of the history but for times, the model, what every client keeps."""
    rows = [{k: v for k, v in vars(row).items() if "second" not in k} for row in sim.history.rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        sim.save(path)
        state = None
        if path.is_file():  # on rank 0
            manifest, tensors = container.read(path, None)
            tensors.pop("history")
            # Rows stay in the file, of which the name, the shape and the digest are known.
            known = {
                name: t if isinstance(t, torch.Tensor) else {**vars(t), "file": None}
                for name, t in tensors.items()
            }
            state = manifest["scalars"], known
    scores = None
    with suppress(ValueError):  # pooled samples have no clients' test parts
        scores = vars(sim.evaluate_clients())
    return dict(rows=rows, state=state, scores=scores)


def run_of(name: str, ranks: str | None, **more: Any) -> dict[str, Any]:
    """A run to its end, and the personal model of client 5 where there is one."""
    sim = simulation(name, ranks, **more)
    sim.run(progress=False)
    found = outcome(sim)
    with suppress(ValueError):
        found["personal"] = sim.client_state_dict(5)
    return found


def resumed(folder: Path, name: str, ranks: str | None, rounds: int) -> dict[str, Any]:
    """A run taken on to so many rounds from where others have left it."""
    path = folder / f"{name}.state"
    sim = simulation(name, ranks, rounds=rounds)
    if rounds > 1:
        sim.load(path)
    sim.run(progress=False)
    sim.save(path)
    return outcome(sim)


def every(size: int) -> dict[str, Any]:
    """What algorithms come to, and what an option adds.

    Four processes share memory in every other run and send messages in the rest.
    """
    ranks, found = "all" if size > 1 else None, {}
    for i, name in enumerate(NAMES):
        if size == 4:
            shared().local = i % 2 == 0
        found[name] = run_of(name, ranks)
    found["kept models"] = run_of("fedavg", ranks, parameters={"keep_models": True})
    found["tuned"] = run_of("fedavg-ft", ranks, participation=1.0)
    found["decay per epoch"] = run_of("fedsam", ranks, lr_decay=0.9, lr_decay_per="client_epoch")
    return found


def member(folder: Path, size: int) -> None:
    """One of `size` processes; rank 0 writes what it found."""
    import torch.distributed as dist

    if size > 1:
        dist.init_process_group("gloo")
    ranks = "all" if size > 1 else None
    found = every(size) | {
        f"resumed {name}": resumed(folder, name, ranks, STAGE[size]) for name in RESUMED
    }
    if os.environ["RANK"] == "0":
        torch.save(found, folder / f"found{size}.pt")
    if size > 1:
        dist.barrier()


def command(folder: Path, victim: int) -> int:
    """`fedfast run` by two ranks, of which one is killed once three rounds are done."""
    from fedfast.cli import main

    out = folder / f"killed{victim}"
    if os.environ.get("RANK") == str(victim):
        Thread(target=killed_after, args=(out / "history.csv", 4), daemon=True).start()
    return main(["run", str(folder / "killed.yaml"), "--out", str(out)])


def differing(folder: Path) -> int:
    """`fedfast run` by two ranks that were given different configs."""
    from fedfast.cli import main

    batch = ["--batch_size", "20"] if os.environ["RANK"] == "1" else []
    return main(["run", str(folder / "killed.yaml"), "--out", str(folder / "none"), *batch])


class Fails(algorithms.SCAFFOLD):
    """On rank 1, in its second round."""

    def finish(self, at: Any) -> Any:
        if os.environ["RANK"] == "1" and at.round == 1:
            raise ValueError("of rank 1 alone")
        return super().finish(at)


def outlived(folder: Path) -> int:
    """Two ranks, one of which fails and lives on until the other has said so."""
    import torch.distributed as dist

    dist.init_process_group("gloo")
    said, given = folder / "lost.txt", dict(rounds=3, batch_size=4, threads=1, ranks="all")
    sim = Simulation(model("scaffold"), federation(), algorithm=Fails(), **given)
    try:
        sim.run(progress=False)
    except RankLost as error:
        said.write_text(str(error))
    except ValueError:
        end = time.monotonic() + 20
        while not said.is_file() and time.monotonic() < end:
            time.sleep(0.01)
    return int(not said.is_file() or sim.round != 1)


def killed_after(path: Path, lines: int) -> None:
    """Ends this process as an administrator would."""
    while not path.is_file() or path.read_text().count("\n") < lines:
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGKILL)


def forked(size: int, work: Callable[[], object], log: Path) -> list[int]:
    """The wait statuses of `size` processes that do it: torch is imported already."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log.write_text("")
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            names = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=size, LOCAL_WORLD_SIZE=size)
            os.environ.update({name: str(value) for name, value in names.items()})
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            output = os.open(log, os.O_WRONLY | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            status = 1
            try:
                status = int(work() or 0)  # type: ignore[call-overload]
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        children.append(child)
    return [os.waitpid(child, 0)[1] for child in children]


def main(folder: Path) -> int:
    """Two processes, one, and four, which go on with each other's states; then some that fail."""
    failed = 0
    for size in STAGE:
        failed += sum(forked(size, partial(member, folder, size), folder / f"log{size}.txt"))
    (folder / "killed.yaml").write_text(CONFIG)
    found = {}
    for victim in (0, 1):
        found[victim] = forked(2, partial(command, folder, victim), folder / f"killed{victim}.txt")
    found["differing"] = forked(2, partial(differing, folder), folder / "differing.txt")
    found["outlived"] = forked(2, partial(outlived, folder), folder / "outlived.txt")
    torch.save(found, folder / "statuses.pt")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
