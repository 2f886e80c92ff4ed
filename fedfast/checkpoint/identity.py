"""What makes two simulations the same run, by name: all that a bit of the result follows from.

Free to differ: how far a run goes (`rounds`), when and by which metric it is evaluated, its
callbacks, and where and how it is computed (device, backend, threads, chunk, memory, verify). A
callable learning rate has no name to compare: `contents.checked` compares what it returns for the
rounds done.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..algorithms import Algorithm
from ..data import Samples
from ..data.client_parts import ClientParts
from ..data.pages import file_of, spread_rows
from ..declarations import declarations
from ..design import Design
from ..options import SimulationOptions
from ..precisions import alike
from ..rounds import Drawn, Explicit
from .container import digest
from .describe import CODE, class_code, describe, flat

# Options that are free, and those that are recorded in another way.
FREE = {"rounds", "eval_every", "eval_last", "callbacks", "empty_clients"}
FREE |= {"device", "backend", "threads", "chunk", "memory", "metric", "verify", "client_metrics"}
FREE |= {"client_rows", "client_rows_folder", "ranks", "metrics"}
ELSEWHERE = {"model", "clients", "algorithm", "test", "dtype", "schedule", "seed"}
TORCHS = "model.held by torch "  # attributes of torch's modules: compared where both states have it
READ = 1 << 30  # bytes of a mapped file that are read for a digest
MANY = 10_000  # clients whose test parts have one digest
LISTED = 8  # differences in one message


def identity(design: Design, rounds: int) -> dict[str, object]:
    """Name -> value in JSON, after so many rounds done; what is large as a digest."""
    if not design.identity:  # computed once: data may be large
        design.identity.update(_lasting(design))
    return {**design.identity, **_schedule(design, rounds)}


def _lasting(design: Design) -> dict[str, object]:
    data = design.data
    made: dict[str, object] = {"dtype": str(design.dtype)}
    made["clients"] = f"{data.num_clients} with {int(data.sizes.sum())} samples"
    made |= flat(describe(design.algorithm), "algorithm")
    made["seed"] = describe(design.options.seed)
    for name, value in _options(design).items():
        rate = name == "lr" and callable(value)
        made |= flat("a function" if rate else describe(value), name)
    return {**made, **_model(design), **_data(design)}


def _options(design: Design) -> dict[str, object]:
    """The options that the identity is made of: a new one is, unless it is listed above."""
    named = (option.name for option in declarations(SimulationOptions))
    found = {n: getattr(design.options, n) for n in named if n not in FREE | ELSEWHERE}
    return found | {"augment": design.augment, "precision": design.precision}


def defaults(algorithm: Algorithm) -> dict[str, object]:
    """Options and parameters of the algorithm that a state lacks because it is older than they
    are: their defaults."""
    made: dict[str, object] = {}
    for option in declarations(SimulationOptions):
        if option.default is not MISSING:
            made |= flat(describe(option.default), option.name)
    return made | _field_defaults(algorithm, "algorithm")


def _field_defaults(value: Any, name: str) -> dict[str, object]:
    """ "name.field" -> default, of a dataclass and of those it holds."""
    made: dict[str, object] = {}
    for field in fields(value):
        inner, part = f"{name}.{field.name}", getattr(value, field.name)
        if field.default is not MISSING:
            made |= flat(describe(field.default), inner)
        if is_dataclass(part) and not isinstance(part, type):
            made |= _field_defaults(part, inner)
    return made


def differences(
    saved: Mapping[str, object], ours: Mapping[str, object], default: Mapping[str, object]
) -> list[str]:
    """`name OURS, found SAVED` of every field that differs, in the order of `ours`."""
    saved = {**{name: default[name] for name in ours if name in default}, **saved}
    saved = _same_rounding(saved, ours)
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
        if expected != was and known and f"{code} under" in name:
            found.append(f"the code of {_part(name)} as it is, found one that has changed since")
        elif expected != was:
            found.append(f"{name} {_differ(expected, was)}")
    return found


def _same_rounding(saved: Mapping[str, object], ours: Mapping[str, object]) -> Mapping[str, object]:
    """`saved` with our word for its precision where a run may go on under it, on another device."""
    words = saved.get("precision"), ours.get("precision")
    known = all(isinstance(word, str) for word in words)
    return {**saved, "precision": words[1]} if known and alike(*map(str, words)) else saved


def _part(name: str) -> str:
    """`loss.of` of "loss.of.code under Python 3.11"."""
    return ".".join(part for part in name.replace(CODE, "").split(".") if part)


def listed(found: list[str]) -> str:
    """The differences in a line."""
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return "; ".join(found[:LISTED]) + more


def _differ(expected: object, was: object) -> str:
    if isinstance(expected, str) and isinstance(was, str) and "\n" in expected + was:
        pairs = zip((expected + "\n").split("\n"), (was + "\n").split("\n"), strict=False)
        a, b = next((a, b) for a, b in pairs if a != b)
        return f"{a.strip()}, found {b.strip()}"
    return f"{_short(expected)}, found {_short(was)}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) < 100 else f"{text[:60]}...{text[-30:]}"


def _model(design: Design) -> dict[str, object]:
    layout, module = design.layout, design.module
    slots = [f"{s.name} {list(s.shape)} {s.dtype} {s.trained}" for s in layout.slots]
    return {
        "model": re.sub(r" at 0x[0-9a-f]+", "", str(module)),
        **_own(module),
        "model.layout": "\n".join(slots),
        **{f"model.constants.{name}": value for name, value in _constants(design).items()},
        "model.initial_weights": digest(layout.flatten(module, design.device)),
    }


def _constants(design: Design) -> dict[str, object]:
    """What no round changes and no row holds: frozen parameters, masks, tables."""
    module, aside = design.module, set(design.layout.aside)
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {name: describe(t) for name, t in tensors if name in aside}


def _own(module: nn.Module) -> dict[str, object]:
    """What the text of a module lacks: attributes of its parts, hooks, code of users' classes.

    Attributes of torch's own modules are kept apart: another version of torch may have more.
    """
    attributes, codes = {}, {}
    theirs: dict[str, object] = {}
    for name, part in module.named_modules():
        code, plain = class_code(type(part)), _plain(part)
        if code:
            attributes[name] = describe(_plain(part, private=True))
            codes[type(part).__qualname__] = code[CODE]
        else:
            theirs |= {f"{TORCHS}{name}.{k}": describe(v) for k, v in plain.items()}
    made = {"model.attributes": attributes, f"model.{CODE}": codes}
    return {**made, "model.hooks": _hooks(module), **theirs}


def _plain(part: nn.Module, private: bool = False) -> dict[str, object]:
    """What a module holds beside tensors and parts, and what every module holds."""
    common = vars(nn.Module())
    names = (k for k in vars(part) if k not in common and (private or k[0] != "_"))
    return {k: vars(part)[k] for k in names if not k.endswith("_hooks")}


def _hooks(module: nn.Module) -> dict[str, object]:
    """Functions hung onto a model's parts and parameters."""
    owners = [*module.named_modules(), *module.named_parameters()]
    found = {
        f"{name}.{kind}": list(hooks.values())
        for name, part in owners
        for kind, hooks in vars(part).items()
        if kind.endswith("_hooks") and isinstance(hooks, Mapping) and hooks
    }
    for name, p in module.named_parameters():
        if p._backward_hooks:
            found[f"{name}._backward_hooks"] = list(p._backward_hooks.values())
    return {name: describe(functions) for name, functions in found.items()}


def _data(design: Design) -> dict[str, object]:
    data = design.data
    made = {f"data.{k}": v for k, v in _samples(data.samples).items()}
    made["data.partition"] = digest(data.order, data.offsets)
    made["clients.test"] = None if data.test is None else _tests(data.test)
    if design.test is None:
        return {**made, "test": None}
    return {**made, **{f"test.{k}": v for k, v in _samples(design.test).items()}}


def _tests(parts: Sequence[Samples]) -> str:
    """A digest of the clients' test parts: of each by itself, as older states have it; of very many
    at once."""
    if len(parts) > MANY and isinstance(parts, ClientParts):
        return _sum([_samples(parts.samples), digest(torch.from_numpy(parts.offsets))])
    return _sum([_samples(part) for part in parts])


def _samples(samples: Samples) -> dict[str, object]:
    return {
        "x": f"{list(samples.x.shape)} {samples.x.dtype} {_inputs(samples.x)}",
        "y": digest(samples.y),
        "normalize": describe(samples.normalize),
    }


def _inputs(x: Tensor) -> str:
    """A digest of all samples; of some, evenly spread, where they are a large mapped file."""
    if x.numel() * x.element_size() <= READ or file_of(x) is None:
        return digest(x)
    return f"of some {digest(spread_rows(x))}"


def _schedule(design: Design, rounds: int) -> dict[str, object]:
    source = design.schedule._source
    if isinstance(source, Drawn):
        named = {"cohort": source.cohort, "epochs": source.epochs, "batch": source.batch}
        chance = {"seed": int(source.seed), "chance": source.chance}
        return {f"schedule.{name}": v for name, v in {**named, **chance}.items()}
    return {"schedule.width": source.width, "schedule.rounds_done": _written(source, rounds)}


def _written(source: Explicit, rounds: int) -> str:
    """A digest of the first rounds of a schedule written down: there may be more of them later."""
    total = hashlib.sha256()
    for cohort, batches in zip(source.cohorts[:rounds], source.batches[:rounds], strict=True):
        total.update(f"round {cohort.tolist()}".encode())
        for steps in batches:
            total.update(f"client {[len(step) for step in steps]}".encode())
            for step in steps:
                total.update(step.tobytes())
    return total.hexdigest()


def _sum(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()
