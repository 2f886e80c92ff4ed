"""The content of replies, which goes as soon as nobody holds it."""

from __future__ import annotations

from functools import partial

from flwr.app import ArrayRecord, MetricRecord, RecordDict

_Records = type(RecordDict().array_records)  # private to Flower: writes reach the content too


class Content(RecordDict):
    """A `RecordDict` that asking for its records does not tie into a cycle.

    Flower's `array_records` refers to itself (its check of values is its own method), and to the
    content: models of past rounds stay until Python looks for cycles. Strategies ask for records
    several times for each reply, which are of the right kinds already.
    """

    @property
    def array_records(self):  # type: ignore[no-untyped-def]  # a class private to Flower
        """See `RecordDict`."""
        return _records(self, ArrayRecord)

    @property
    def metric_records(self):  # type: ignore[no-untyped-def]
        """See `RecordDict`."""
        return _records(self, MetricRecord)

    def __reduce__(self) -> tuple[object, ...]:
        return RecordDict, (dict(self),)


Content.__qualname__ = RecordDict.__qualname__  # by which Flower marks bytes that it sends


def _records(content, kind):  # type: ignore[no-untyped-def]
    records = _Records(content, kind)
    records.__dict__["_check_value_fn"] = partial(_check, kind)
    records.__dict__["_data"] = {k: r for k, r in content.items() if isinstance(r, kind)}
    return records


def _check(kind: type, value: object) -> None:
    if not isinstance(value, kind):
        got = type(value).__name__
        raise TypeError(f"Expected `{kind.__name__}`, but received `{got}` for the value.")
