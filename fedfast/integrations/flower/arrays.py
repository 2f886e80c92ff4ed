"""Arrays of many replies over one buffer: no bytes are made unless somebody reads `data`."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from flwr.app import Array, ArrayRecord, Message

from .unsupported import Unsupported

NUMPY = "numpy.ndarray"


class Rows:
    """Trained models, by name [C, ...]: views of a cohort's buffers, until `keep` copies them."""

    def __init__(self, views: dict[str, np.ndarray]) -> None:
        self.views, self.kept = views, False

    def keep(self) -> None:
        """Stop reading the cohort's buffers, which are about to be overwritten."""
        if not self.kept:
            self.views = {name: view.copy() for name, view in self.views.items()}
            self.kept = True


class RowArray(Array):
    """An `Array` that is row `at` of `rows[name]`; all that Flower does with arrays it does too."""

    def __init__(self, rows: Rows, name: str, at: int, dtype: str) -> None:
        own = self.__dict__
        own["dtype"], own["shape"], own["stype"] = dtype, rows.views[name].shape[1:], NUMPY
        own["_row"] = rows, name, at

    @property
    def data(self) -> bytes:
        """The bytes of `numpy.save`, made when first asked for."""
        if "_bytes" not in self.__dict__:
            buffer = BytesIO()
            np.save(buffer, self.numpy(), allow_pickle=False)
            self.__dict__["_bytes"] = buffer.getvalue()
        return self.__dict__["_bytes"]

    @data.setter
    def data(self, value: bytes) -> None:
        self.__dict__["_bytes"] = value
        self.__dict__["_row"] = None

    def numpy(self) -> np.ndarray:
        """A copy of the row, the caller's own as with every `Array`."""
        if self.__dict__["_row"] is None:
            return super().numpy()
        rows, name, at = self.__dict__["_row"]
        return rows.views[name][at].astype(self.dtype)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Array):
            return NotImplemented
        mine, theirs = ((a.dtype, a.shape, a.stype, a.data) for a in (self, other))
        return mine == theirs

    def __reduce__(self) -> tuple[object, ...]:
        return Array, (self.dtype, self.shape, self.stype, self.data)


RowArray.__qualname__ = Array.__qualname__  # by which Flower marks bytes that it sends


def by_name(record: ArrayRecord, names: list[str]) -> dict[str, str]:
    """{name of the state dict: key of the record}, by the same names, or by position.

    names  of the declared model's state dict; the record must have these and no others: what else
           a function reads or replies is not the declared training's
    """
    keys = list(record)
    if set(names) == set(keys):
        return {name: name for name in names}
    if len(keys) == len(names):
        return dict(zip(names, keys, strict=True))
    other = [key for key in keys if key not in names] or [n for n in names if n not in keys]
    raise Unsupported(
        f"{len(keys)} arrays for the {len(names)} of the declared model's state dict "
        f"(one side alone has {', '.join(map(repr, other[:3]))})"
    )


def array_record(message: Message) -> tuple[str, ArrayRecord]:
    """(key, record) of the only ArrayRecord in a message."""
    found = [(k, r) for k, r in message.content.items() if isinstance(r, ArrayRecord)]
    if len(found) != 1:
        raise Unsupported(f"messages with {len(found)} ArrayRecords; expected one")
    return found[0]
