"""What makes two simulations the same run, by name: all that a bit of the result follows from.

Free to differ: how far a run goes (`rounds`), when and by which metric it is evaluated, its
callbacks, and where and how it is computed (device, backend, threads, chunk, memory, verify). A
callable learning rate has no name to compare: `contents.checked` compares what it returns for the
rounds done.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from ..data import Samples
from ..rounds import Drawn, Explicit
from .container import digest
from .describe import CODE, class_code, describe, flat

if TYPE_CHECKING:
    from ..simulation import Simulation

# Options that are free, or told in another way.
FREE = {"rounds", "eval_every", "eval_last", "callbacks", "empty_clients"}
FREE |= {"device", "backend", "threads", "chunk", "memory", "metric", "verify"}
ELSEWHERE = {"self", "model", "clients", "algorithm", "test", "dtype", "schedule", "seed"}
TORCHS = "model.held by torch "  # what parts of torch hold: compared where both states tell it
SHOWN = 8  # differences told in one message


def options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a `Simulation` that its identity is made of: new ones are, by themselves."""
    return {name: v for name, v in given.items() if name not in FREE | ELSEWHERE}


def identity(sim: Simulation, rounds: int) -> dict[str, Any]:
    """Name -> value in JSON, after so many rounds done; what is large as a digest."""
    if not sim._identity:  # what never changes is looked at once: data may be large
        sim._identity = _lasting(sim)
    return {**sim._identity, **_schedule(sim, rounds)}


def _lasting(sim: Simulation) -> dict[str, Any]:
    data = sim._engine.data
    made: dict[str, Any] = {"dtype": str(sim.dtype)}
    made["clients"] = f"{data.num_clients} with {int(data.sizes.sum())} samples"
    made |= flat(describe(sim.algorithm), "algorithm")
    made["seed"] = describe(sim._engine.local.seed)
    for name, value in sim._options.items():
        rate = name == "lr" and callable(value)
        made |= flat("a function" if rate else describe(value), name)
    return {**made, **_model(sim), **_data(sim)}


def defaults(sim: Simulation) -> dict[str, Any]:
    """What options and parameters of the algorithm are where a state does not tell them: it may be
    older than they are."""
    made: dict[str, Any] = {}
    for name, option in inspect.signature(type(sim).__init__).parameters.items():
        if option.default is not option.empty:
            made |= flat(describe(option.default), name)
    return made | _field_defaults(sim.algorithm, "algorithm")


def _field_defaults(value: Any, name: str) -> dict[str, Any]:
    """ "name.field" -> default, of a dataclass and of those it holds."""
    made: dict[str, Any] = {}
    for field in fields(value):
        inner, held = f"{name}.{field.name}", getattr(value, field.name)
        if field.default is not MISSING:
            made |= flat(describe(field.default), inner)
        if is_dataclass(held) and not isinstance(held, type):
            made |= _field_defaults(held, inner)
    return made


def differences(
    saved: Mapping[str, Any], ours: Mapping[str, Any], default: Mapping[str, Any]
) -> list[str]:
    """`name OURS, found SAVED` of every field that differs, in the order of `ours`."""
    saved = {**{name: default[name] for name in ours if name in default}, **saved}
    names = [*ours, *(name for name in saved if name not in ours)]
    code = CODE.split(" under ")[0]
    found = []
    for name in names:
        known = name in ours and name in saved
        if not known and (f"{code} under" in name or name.startswith(TORCHS)):
            continue  # compiled by another Python, or of another torch: nothing to compare
        if name == "lr" and "a function" in (saved.get(name), ours.get(name)):
            continue
        expected, was = (of.get(name, "nothing") for of in (ours, saved))
        if expected != was:
            found.append(f"{name} {_differ(expected, was)}")
    return found


def said(found: list[str]) -> str:
    """The differences in a line."""
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more


def _differ(expected: Any, was: Any) -> str:
    if isinstance(expected, str) and isinstance(was, str) and "\n" in expected + was:
        pairs = zip((expected + "\n").split("\n"), (was + "\n").split("\n"), strict=False)
        a, b = next((a, b) for a, b in pairs if a != b)
        return f"{a.strip()}, found {b.strip()}"
    return f"{_short(expected)}, found {_short(was)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 100 else f"{text[:60]}...{text[-30:]}"


def _model(sim: Simulation) -> dict[str, Any]:
    layout, module = sim.layout, sim._model
    slots = [f"{s.name} {list(s.shape)} {s.dtype} {s.trained}" for s in layout.slots]
    return {
        "model": re.sub(r" at 0x[0-9a-f]+", "", str(module)),
        **_own(module),
        "model.layout": "\n".join(slots),
        **{f"model.constants.{name}": value for name, value in _constants(sim).items()},
        "model.initial_weights": digest(layout.flatten(module, sim._engine.state.row.device)),
    }


def _constants(sim: Simulation) -> dict[str, Any]:
    """What no round changes and no row holds: frozen parameters, masks, tables."""
    module, aside = sim._model, set(sim.layout.aside)
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {name: describe(t) for name, t in tensors if name in aside}


def _own(module: nn.Module) -> dict[str, Any]:
    """What the text of a module does not say: what its parts hold, hooks, code of users' classes.

    What parts of torch hold is told apart: another version of torch may hold more.
    """
    attributes, codes = {}, {}
    theirs: dict[str, Any] = {}
    for name, part in module.named_modules():
        code, plain = class_code(type(part)), _plain(part)
        if code:
            attributes[name] = describe(_plain(part, private=True))
            codes[type(part).__qualname__] = code[CODE]
        else:
            theirs |= {f"{TORCHS}{name}.{k}": describe(v) for k, v in plain.items()}
    made = {"model.attributes": attributes, f"model.{CODE}": codes}
    return {**made, "model.hooks": _hooks(module), **theirs}


def _plain(part: nn.Module, private: bool = False) -> dict[str, Any]:
    """What a module holds beside tensors and parts, and what every module holds."""
    common = vars(nn.Module())
    names = (k for k in vars(part) if k not in common and (private or k[0] != "_"))
    return {k: vars(part)[k] for k in names if not k.endswith("_hooks")}


def _hooks(module: nn.Module) -> dict[str, Any]:
    """Functions hung onto a model's parts and parameters."""
    held = [*module.named_modules(), *module.named_parameters()]
    found = {
        f"{name}.{kind}": list(hooks.values())
        for name, part in held
        for kind, hooks in vars(part).items()
        if kind.endswith("_hooks") and isinstance(hooks, Mapping) and hooks
    }
    for name, p in module.named_parameters():
        if p._backward_hooks:
            found[f"{name}._backward_hooks"] = list(p._backward_hooks.values())
    return {name: describe(functions) for name, functions in found.items()}


def _data(sim: Simulation) -> dict[str, Any]:
    data = sim._engine.data
    made = {f"data.{k}": v for k, v in _samples(data.samples).items()}
    made["data.partition"] = digest(data.order, data.offsets)
    parts = sim._tests
    own = None if parts is None else [_samples(part) for part in parts]
    made["clients.test"] = None if own is None else _sum(own)
    if sim._test is None:
        return {**made, "test": None}
    return {**made, **{f"test.{k}": v for k, v in _samples(sim._test).items()}}


def _samples(samples: Samples) -> dict[str, Any]:
    return {
        "x": f"{list(samples.x.shape)} {samples.x.dtype} {digest(samples.x)}",
        "y": digest(samples.y),
        "normalize": describe(samples.normalize),
    }


def _schedule(sim: Simulation, rounds: int) -> dict[str, Any]:
    plan = sim.schedule._plan
    if isinstance(plan, Drawn):
        named = {"cohort": plan.cohort, "epochs": plan.epochs, "batch": plan.batch}
        chance = {"seed": int(plan.seed), "chance": plan.chance}
        return {f"schedule.{name}": v for name, v in {**named, **chance}.items()}
    return {"schedule.width": plan.width, "schedule.rounds_done": _written(plan, rounds)}


def _written(plan: Explicit, rounds: int) -> str:
    """A digest of the first rounds of a schedule written down: there may be more of them later."""
    total = hashlib.sha256()
    for cohort, batches in zip(plan.cohorts[:rounds], plan.batches[:rounds], strict=True):
        total.update(f"round {cohort.tolist()}".encode())
        for steps in batches:
            total.update(f"client {[len(step) for step in steps]}".encode())
            for step in steps:
                total.update(step.tobytes())
    return total.hexdigest()


def _sum(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()
