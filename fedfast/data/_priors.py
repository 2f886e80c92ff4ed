"""Class priors of all clients ~ Dirichlet, kept in half of their bits."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from ..kernels import dealing

Floats = NDArray[np.float64]
Bits = NDArray[np.uint64]
_BLOCK = 512  # clients whose priors are drawn at once, and again where one of them is asked for

_OFTEN = 4  # times that all might have been drawn again: from then on all numbers are kept


class DrawnPriors:
    """Priors [N, C] ~ Dirichlet(alpha), those of `rng.dirichlet(alpha, N)` to the bit.

    rng      gets past the draws
    alpha    [C], 0: the class is in no prior
    Kept are the upper halves of the numbers, and where the generator was before each block of
    clients, which are drawn again for a client whose prior is asked for.
    """

    def __init__(self, rng: np.random.Generator, alpha: Floats, clients: int) -> None:
        self.classes, self._present = alpha.size, np.flatnonzero(alpha)
        self._alpha, self._clients = alpha[self._present], clients
        self._again = np.random.Generator(np.random.Philox(0))
        self._key = _philox(rng).state["state"]["key"]
        self._places = np.empty((-(-clients // _BLOCK), 11), dtype=np.uint64)
        self._block, self._priors = -1, np.empty((0, alpha.size))
        self._redraws, self._all = 0, cast("Floats | None", None)
        self.upper = np.zeros((clients, alpha.size), dtype=np.uint32)
        for block, place in enumerate(self._places):
            place[:] = _place(rng)
            rows = self._rows(block)
            self.upper[rows] = dealing.upper_halves(self._drawn(rng, rows))

    def exact(self, client: int) -> Floats:
        """[C]"""
        if self._all is not None:
            return cast(Floats, self._all[client])
        block, row = divmod(client, _BLOCK)
        if block != self._block:
            self._block, self._priors = block, self._redrawn(block)
            self._redraws += 1
            if self._redraws > _OFTEN * len(self._places):
                self._all = self.whole()
        return cast(Floats, self._priors[row])

    def whole(self) -> Floats:
        """[N, C]"""
        return np.concatenate([self._redrawn(block) for block in range(len(self._places))])

    def _rows(self, block: int) -> slice:
        return slice(block * _BLOCK, min((block + 1) * _BLOCK, self._clients))

    def _redrawn(self, block: int) -> Floats:
        _put(self._again, self._key, self._places[block])
        return self._drawn(self._again, self._rows(block))

    def _drawn(self, rng: np.random.Generator, rows: slice) -> Floats:
        made = np.zeros((rows.stop - rows.start, self.classes))
        made[:, self._present] = rng.dirichlet(self._alpha, size=len(made))
        return made


def _philox(rng: np.random.Generator) -> np.random.Philox:
    return cast(np.random.Philox, rng.bit_generator)


def _place(rng: np.random.Generator) -> Bits:
    """Where the generator is: counter [4], buffer [4], what is used of it, the half number held."""
    state = _philox(rng).state
    others = [state["buffer_pos"], state["has_uint32"], state["uinteger"]]
    return np.concatenate([state["state"]["counter"], state["buffer"], np.array(others, np.uint64)])


def _put(rng: np.random.Generator, key: Bits, place: Bits) -> None:
    _philox(rng).state = {
        "bit_generator": "Philox",
        "state": {"counter": place[:4].copy(), "key": key},
        "buffer": place[4:8].copy(),
        "buffer_pos": int(place[8]),
        "has_uint32": int(place[9]),
        "uinteger": int(place[10]),
    }


def shares_of(prior: DrawnPriors | Floats | Bits) -> dealing.Shares | Bits:
    """What `dealing.deal` takes; arrays [N, C] keep their numbers beside."""
    if isinstance(prior, DrawnPriors):
        return dealing.Shares(prior.upper, prior.exact)
    if prior.ndim == 1:
        return cast(Bits, prior)
    given = np.ascontiguousarray(prior, dtype=np.float64)
    return dealing.Shares(dealing.upper_halves(given), lambda client: cast(Floats, given[client]))


def prior_of(prior: DrawnPriors | Floats | Bits, classes: int) -> Floats:
    """Priors [N, classes], also of clients that draw from the classes of their bits alike."""
    if isinstance(prior, DrawnPriors):
        return prior.whole()
    if prior.ndim == 2:
        return cast(Floats, prior)
    owned = cast(Bits, prior)
    has = (owned[:, None] >> np.arange(classes, dtype=np.uint64)) & np.uint64(1) == 1
    return np.where(has, 1 / has.sum(axis=1, keepdims=True), 0.0)
