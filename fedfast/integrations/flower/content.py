"""The content of replies, which goes as soon as nobody holds it."""

from __future__ import annotations

from functools import partial

from flwr.app import ArrayRecord, MetricRecord, RecordDict


class Content(RecordDict):
    """A `RecordDict` that asking for its records does not tie into a cycle.

    Flower's `array_records` refers to itself (its check of values is its own method), and to the
    content: models of past rounds stay until Python looks for cycles.
    """

    @property
    def array_records(self):  # type: ignore[no-untyped-def]  # a class private to Flower
        """See `RecordDict`."""
        return _untied(super().array_records, ArrayRecord)

    @property
    def metric_records(self):  # type: ignore[no-untyped-def]
        """See `RecordDict`."""
        return _untied(super().metric_records, MetricRecord)

    def __reduce__(self) -> tuple[object, ...]:
        return RecordDict, (dict(self),)


Content.__qualname__ = RecordDict.__qualname__  # by which Flower marks bytes that it sends


def _untied(records, kind):  # type: ignore[no-untyped-def]
    records.__dict__["_check_value_fn"] = partial(_check, kind)
    return records


def _check(kind: type, value: object) -> None:
    if not isinstance(value, kind):
        got = type(value).__name__
        raise TypeError(f"Expected `{kind.__name__}`, but received `{got}` for the value.")
