"""What a message and its node say: learning rate, epochs, arguments of the data function."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from inspect import Parameter, signature

from flwr.app import ConfigRecord, Context, Message

from .declaration import Setting, Training
from .unsupported import Unsupported

Scalar = str | bytes | int | float | bool


def lookup(key: str, message: Message, context: Context) -> object:
    """The value under a key in the message's config, else in the run config, else None."""
    for record in message.content.values():
        if isinstance(record, ConfigRecord) and key in record:
            return record[key]
    return context.run_config.get(key)


def number(setting: Setting, message: Message, context: Context) -> float | None:
    """The value of a setting, None for a key that nobody gives."""
    if isinstance(setting, str):
        found = lookup(setting, message, context)
    else:
        found = setting(message, context) if callable(setting) else setting
    if found is None or isinstance(found, (int, float)):
        return found
    raise Unsupported(f"{setting!r}: expected a number; got {found!r}")


@dataclass(frozen=True)
class Settings:
    """What a message asks of its node; lr None: the optimizer's own."""

    lr: float | None
    epochs: int
    mu: float


def settings_of(training: Training, message: Message, context: Context) -> Settings:
    """The settings of one message."""
    lr = number(training.lr, message, context)
    epochs = number(training.epochs, message, context)
    mu = number(training.proximal_mu, message, context)
    return Settings(lr, 1 if epochs is None else int(epochs), mu or 0.0)


@dataclass(frozen=True)
class DataCall:
    """The arguments of one call of a data function; equal keys mean equal calls."""

    key: Hashable
    arguments: Mapping[str, object]


class DataArguments:
    """Fills the arguments of a data function by their names."""

    def __init__(self, function: Callable[..., object]) -> None:
        plain = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
        found = signature(function).parameters.values()
        self.parameters = [p for p in found if p.kind not in plain]

    def call(self, message: Message, context: Context) -> DataCall:
        """What to call the function with. Raises Unsupported for a name that nobody gives."""
        given: dict[str, object] = {}
        for parameter in self.parameters:
            value = self._value(parameter.name, message, context)
            if value is not None:
                given[parameter.name] = value
            elif parameter.default is Parameter.empty:
                raise Unsupported(
                    f"the data function's argument {parameter.name!r}: neither the message's "
                    f"config nor the run config has {_key(parameter.name)!r}"
                )
        names = {name: _hashable(value) for name, value in given.items()}
        return DataCall((context.node_config["partition-id"], *names.items()), given)

    def _value(self, name: str, message: Message, context: Context) -> object:
        if name == "context":
            return context
        if name in ("message", "msg"):
            return message
        own = context.node_config.get(_key(name))
        return lookup(_key(name), message, context) if own is None else own


def _key(name: str) -> str:
    return name.replace("_", "-")


def _hashable(value: object) -> Hashable:
    if isinstance(value, Context):
        return value.node_id
    if isinstance(value, Message):
        return value.metadata.message_id
    return value if isinstance(value, Scalar) else repr(value)
