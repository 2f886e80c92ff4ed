"""Replies in the form of the app's own: keys of records, names of arrays, names of metrics."""

from __future__ import annotations

from dataclasses import dataclass

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord

from .app_calls import identified
from .arrays import RowArray, Rows, array_record, by_name
from .content import Content
from .unsupported import Unsupported

Named = tuple[str, MetricRecord]
Record = ArrayRecord | MetricRecord | ConfigRecord


@dataclass(frozen=True)
class ReplyForm:
    """How an app replies to a train message.

    key     of the record of arrays
    names   {key in it: name in the model's state dict}
    dtypes  by key
    """

    key: str
    names: dict[str, str]
    dtypes: dict[str, str]

    def reply(self, message: Message, rows: Rows, at: int, metrics: Named) -> Message:
        """The reply of the client in row `at`; metrics: (key, record)."""
        arrays = ArrayRecord()
        arrays.__dict__["_data"] = {  # a check of each key and value is most of the time otherwise
            key: RowArray(rows, name, at, self.dtypes[key]) for key, name in self.names.items()
        }
        content: dict[str, Record] = {self.key: arrays, metrics[0]: metrics[1]}
        return identified(Message(Content(content), reply_to=message))


def form_of(reply: Message, names: list[str]) -> ReplyForm:
    """The form of an app's reply; `names` are those of the model's state dict, in its order."""
    key, record = array_record(reply)
    if len(reply.content) != 2:
        raise Unsupported(
            f"replies with records {list(reply.content)}: expected arrays and metrics"
        )
    if not record:
        raise Unsupported("a reply without arrays")
    if set(record) <= set(names):
        found = {k: k for k in record}
    else:
        found = {k: name for name, k in by_name(record, names).items()}
    dtypes = {k: array.dtype for k, array in record.items()}
    return ReplyForm(key, found, dtypes)
