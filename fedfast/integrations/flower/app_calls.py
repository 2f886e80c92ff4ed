"""Calls of a ClientApp's own functions in this process, as Flower's simulation makes them."""

from __future__ import annotations

from copy import copy, deepcopy
from uuid import uuid4

from flwr.app import Context, Message, RecordDict
from flwr.app.error import Error
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode


def identified(message: Message) -> Message:
    """The message with an id of its own, as a grid gives it."""
    message.metadata.__dict__["_message_id"] = str(uuid4())
    return message


def private(message: Message) -> Message:
    """The message with records of its own: functions may empty those that they are given."""
    own = copy(message)
    own.content = RecordDict({name: r.copy() for name, r in message.content.items()})
    return own


def error_reply(error: BaseException, message: Message) -> Message:
    """What Flower's simulation replies for a node whose function has raised."""
    reason = f"{type(error)}:<'{error}'>"
    code = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    return identified(Message(Error(code=code, reason=reason), reply_to=message))


def call(app: ClientApp, message: Message, context: Context) -> Message:
    """The app's reply, an error reply where it raises. `context` is the node's own."""
    config = deepcopy(context.run_config)
    try:
        reply = app(private(message), context)
        if context.run_config != config:
            raise ValueError("The `run_config` field of the `Context` object cannot be modified")
    except Exception as error:  # whatever the app raises: its node fails, the run goes on
        context.run_config = config
        return error_reply(error, message)
    return identified(reply)
