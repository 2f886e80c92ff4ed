"""The partitions that nodes have read, kept across rounds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property

from flwr.app import Context, Message

from .declaration import Training
from .loaders import Samples, Unpack, seeded
from .settings import DataArguments
from .unsupported import Unsupported


class Partition:
    """A node's loaders, whose samples are read when first needed."""

    def __init__(self, loaders: object, unpack: Unpack, whole: bool) -> None:
        if isinstance(loaders, Mapping):
            loaders = list(loaders.values())
        found = loaders if isinstance(loaders, Sequence) else [loaders]
        self._loaders: Sequence[object] = found
        self._unpack, self._whole = unpack, whole

    @cached_property
    def train(self) -> Samples:
        """What it trains on."""
        return Samples(self._loaders[0], self._unpack, self._whole)

    @cached_property
    def validation(self) -> Samples:
        """What it evaluates on."""
        if len(self._loaders) < 2:
            raise Unsupported("a data function that gives no validation loader")
        return Samples(self._loaders[1], self._unpack, self._whole)

    @property
    def bytes(self) -> int:
        """Memory of what has been read."""
        return sum(s.bytes for s in vars(self).values() if isinstance(s, Samples))


class Partitions:
    """Calls the data function once for each node, and again where its arguments change."""

    def __init__(self, training: Training) -> None:
        self._training, self._arguments = training, DataArguments(training.data)
        self._kept: OrderedDict[Hashable, Partition] = OrderedDict()
        self._bytes: dict[Hashable, int] = {}
        self._used: set[Hashable] = set()  # since the last `shrink`

    def of(self, message: Message, context: Context) -> Partition:
        """The partition that a message's node reads; all samples of the first are read twice."""
        call = self._arguments.call(message, context)
        if call.key not in self._kept:
            with seeded(self._training.seed):
                loaders = self._training.data(**call.arguments)
            first = not self._kept
            self._kept[call.key] = Partition(loaders, self._training.unpack, first)
        self._kept.move_to_end(call.key)
        self._used.add(call.key)
        return self._kept[call.key]

    def shrink(self) -> None:
        """Drop the longest unused until the others fit into `cache_bytes`."""
        self._bytes.update({key: self._kept[key].bytes for key in self._used})
        self._used.clear()
        total = sum(self._bytes.values())
        while total > self._training.cache_bytes and len(self._kept) > 1:
            oldest, _ = self._kept.popitem(last=False)
            total -= self._bytes.pop(oldest)
