"""`Ranks`: this process among those of a group, and how they talk to each other."""

from __future__ import annotations

import os
import platform
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from ..shared_memory import SharedMemory, opened

TIMEOUT = timedelta(minutes=30)  # for a machine that is gone without a word; longer than a round
PATIENCE = timedelta(seconds=3)  # for the words of a rank that has failed
GRACE = 60.0  # seconds that a rank may take to save and to end
BRIEF = 1e-4  # seconds that a rank looks for others without a pause
GLANCE = 0.1  # seconds between looks at whether others are alive
LOST = (RuntimeError, ValueError, OSError)  # what torch raises where a connection has ended

T = TypeVar("T")


class RankLost(RuntimeError):
    """Another rank has failed, or is gone.

    told  whether it has said why: rank 0 tells people
    """

    told = False


class Ranks:
    """The processes of the default group, of which this is number `rank` of `size`.

    Small things travel over Gloo whatever the group's backend; tensors of a device over the
    group's own (NCCL on GPU).

    local   whether each can open the memory of all others: they are on one machine
    broken  whether this one is done with the others, which are elsewhere: it talks no more
    """

    broken = False
    _said = False  # whether the store has words of this rank's on an error

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._control = dist.new_group(backend="gloo", timeout=TIMEOUT)
        self._store = dist.distributed_c10d._get_default_store()
        self._talking = False
        here = f"{platform.node()}, process {os.getpid()}"
        self.names = [f"rank {i} ({who})" for i, who in enumerate(self.gathered(here))]
        self.local = self._opens_memory()

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which reads, writes and says what is done next."""
        return self.rank == 0

    def tell(self, *command: object) -> None:
        """Of rank 0: what all ranks do now."""
        with self._talk():
            dist.broadcast_object_list([command], src=0, group=self._control)

    def hear(self) -> tuple[object, ...]:
        """Of other ranks: what rank 0 has told."""
        told: list[tuple[object, ...]] = [()]
        with self._talk():
            dist.broadcast_object_list(told, src=0, group=self._control)
        return told[0]

    def of_first(self, work: Callable[[], T]) -> T:
        """What `work` gives on rank 0, which alone does it."""
        if not self.first:
            return cast("T", self.hear()[0])
        with self.told_of_errors():
            found = work()
        self.tell(found)
        return found

    def gathered(self, own: T) -> list[T]:
        """What every rank has given, in their order; tensors on the CPU."""
        found = [own] * self.size
        with self._talk():
            dist.all_gather_object(found, own, group=self._control)
        return found

    def wait(self, ready: Callable[[], bool]) -> None:
        """Until it is, by what other ranks do without a word.

        Raises RankLost where one is gone, or has failed: its process may live on.
        """
        begin = look = time.monotonic()
        while not ready():
            now = time.monotonic()
            time.sleep(0 if now - begin < BRIEF else BRIEF)
            if now - look > GLANCE:
                if (self._gone() or self._failed()) and not ready():
                    raise self._lost("its connections are closed")
                look = now

    def spread(self, parts: Sequence[Tensor]) -> None:
        """Part i of memory that all ranks have, contiguous, becomes what rank i has there."""
        with self._talk():
            work = [
                dist.broadcast(part, src=i, group=self._group(part), async_op=True)
                for i, part in enumerate(parts)
                if part.numel()
            ]
            for each in work:
                each.wait()

    def moved(
        self, send: Sequence[tuple[int, Tensor]], receive: Sequence[tuple[int, Tensor]]
    ) -> None:
        """Tensors from rank to rank, in the order in which both ends name them."""
        with self._talk():
            work = [dist.isend(t, to, group=self._group(t)) for to, t in send]
            work += [dist.irecv(t, source, group=self._group(t)) for source, t in receive]
            for each in work:
                if each is not None:  # a rank outside of the group has nothing to wait for
                    each.wait()

    def dismiss(self, status: int) -> None:
        """Of rank 0: the others may go. Where they cannot be told they find out by themselves."""
        with suppress(RankLost):
            self.tell("end", status)

    def leads(self) -> bool:
        """Whether all ranks before this one are gone: one of those left tells people."""
        return not any(map(_alive, self.names[: self.rank]))

    def outlives(self) -> bool:
        """Wait until all ranks before this one are gone; whether that came to pass.

        One of those left keeps what they may have had no time to keep.
        """
        deadline = time.monotonic() + GRACE
        while not self.leads():
            if time.monotonic() > deadline or not all(map(_here, self.names[: self.rank])):
                return False
            time.sleep(0.05)
        return True

    @contextmanager
    def told_of_errors(self) -> Iterator[None]:
        """An error inside the block reaches the other ranks, where this one will be missed."""
        try:
            yield
        except RankLost:
            raise
        except BaseException as error:
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            with suppress(*LOST):
                self._said = True
                self._store.set(f"fedfast failed {self.rank}", what)
            raise

    def _opens_memory(self) -> bool:
        mark = secrets.randbits(62)  # a number of another machine's process may be in use here
        own: SharedMemory | None = None
        with suppress(OSError):
            own = SharedMemory((1,), torch.int64)
            own.tensor[0] = mark
        found = self.gathered(None if own is None else (os.getpid(), own.about, mark))
        ready = False
        with suppress(OSError):
            ready = all(each and int(opened(*each[:2])[0]) == each[2] for each in found)
        return all(self.gathered(ready))

    def _gone(self) -> list[str]:
        return [name for i, name in enumerate(self.names) if i != self.rank and not _alive(name)]

    def _failed(self) -> bool:
        """Whether another rank has said so."""
        with suppress(*LOST):
            others = (i for i in range(self.size) if i != self.rank)
            return any(self._store.check([f"fedfast failed {i}"]) for i in others)
        return False

    def _group(self, t: Tensor) -> dist.ProcessGroup | None:
        return None if t.device.type == "cuda" else self._control

    @contextmanager
    def _talk(self) -> Iterator[None]:
        if self.broken:
            raise RankLost("a round was broken off, after which the ranks cannot go on together")
        try:
            if self._said:  # of an error that it has outlived: others would take it for a new one
                self._store.delete_key(f"fedfast failed {self.rank}")
                self._said = False
            yield
        except LOST as error:
            raise self._lost(str(error)) from error

    def _lost(self, error: str) -> RankLost:
        """Names the rank that has failed, in its words where it had time for some."""
        self.broken = True
        words = self._words()
        made = RankLost(words or self._reason(error))
        made.told = bool(words)
        return made

    def _words(self) -> str:
        with suppress(*LOST):
            self._store.set_timeout(PATIENCE)
            keys = [f"fedfast failed {i}" for i in range(self.size)]
            for i, (name, key) in enumerate(zip(self.names, keys, strict=True)):
                if i != self.rank and self._store.check([key]):
                    return f"{name}: {self._store.get(key).decode()}"
        return ""

    def _reason(self, error: str) -> str:
        gone = self._gone()
        deadline = time.monotonic() + PATIENCE.total_seconds()
        while not gone and time.monotonic() < deadline:  # it may be on its way out
            time.sleep(0.05)
            gone = self._gone()
        return f"{', '.join(gone) or 'another rank'} is gone ({error.splitlines()[0][:120]})"


def _alive(name: str) -> bool:
    """Whether a process of this machine still runs; those of others count as alive."""
    if not _here(name):
        return True
    try:
        with open(f"/proc/{name.rpartition(' ')[2].rstrip(')')}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _here(name: str) -> bool:
    """Whether it is a process of this machine."""
    return name.partition("(")[2].partition(", process ")[0] == platform.node()


@cache
def shared() -> Ranks:
    """The ranks of the default process group, which must be there."""
    if not (dist.is_available() and dist.is_initialized()):
        raise ValueError(
            "ranks: expected torch.distributed.init_process_group() before ranks='all'; "
            "found no process group"
        )
    return Ranks()


def begin() -> Ranks:
    """Join the group that the environment names: NCCL where each local rank has a GPU, or Gloo."""
    if not dist.is_initialized():
        local = local_rank()
        cuda = torch.cuda.is_available() and torch.cuda.device_count() > local
        if cuda:
            torch.cuda.set_device(local)
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=TIMEOUT)
    return shared()


def local_rank() -> int:
    """The number of this process on its machine."""
    return int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0)))


def threads() -> int:
    """Threads of a rank: the cores of this machine, shared by the ranks that run on it."""
    ranks = os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("SLURM_NTASKS_PER_NODE", ""))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // int(ranks if ranks.isdigit() else 1))
