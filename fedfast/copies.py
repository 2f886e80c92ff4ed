"""Faithful copies of a user's module: hooks, replaced `forward`s and recomputed tensors included.

`copy.deepcopy` alone refuses modules that hold a recomputed (non-leaf) tensor, as `weight_norm` and
`prune` leave, drops gradient hooks of parameters, and leaves closures on the original's layers.
"""

from __future__ import annotations

from copy import deepcopy
from types import CellType, FunctionType, MethodType

import torch
from torch import Tensor, nn

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def copy_of(module: nn.Module) -> nn.Module:
    """A copy that computes what `module` does; ValueError naming `model` if there can be none."""
    memo: dict[int, object] = {}
    for m in module.modules():
        for value in vars(m).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()  # its hook computes it anew
    try:
        copied = deepcopy(module, memo)
    except Exception as error:  # whatever an attribute raises when it is copied
        raise ValueError(
            f"model: it cannot be copied{_culprit(module)} ({type(error).__name__}: {error}); give "
            "the class a __deepcopy__, or make that attribute where it is used"
        ) from error
    for m in copied.modules():
        _rebind(m, memo)
    for p in module.parameters():
        for hook in (p._backward_hooks or {}).values():
            own = memo[id(p)]
            assert isinstance(own, Tensor)
            own.register_hook(_bound(hook, memo))
    return copied


def _culprit(module: nn.Module) -> str:
    for name, m in module.named_modules():
        for key, value in vars(m).items():
            if key in ("_parameters", "_buffers", "_modules"):
                continue
            try:
                deepcopy(value, {id(part): part for part in module.modules()})
            except Exception:  # noqa: BLE001 - the one that is looked for
                return f": attribute {f'{name}.{key}'.lstrip('.')}"
    return ""


def _rebind(m: nn.Module, memo: dict[int, object]) -> None:
    """Functions that hold layers of the original get those of the copy."""
    if "forward" in vars(m):
        m.__dict__["forward"] = _bound(m.__dict__["forward"], memo)
    for kind in HOOKS:
        hooks = getattr(m, kind)
        for key, hook in hooks.items():
            hooks[key] = _bound(hook, memo)


def _bound(value: object, memo: dict[int, object]) -> object:
    """`value` itself, or its counterpart in the copy."""
    if id(value) in memo and not isinstance(value, MethodType):
        return memo[id(value)]
    if isinstance(value, MethodType):
        owner = _bound(value.__self__, memo)
        return value if owner is value.__self__ else MethodType(value.__func__, owner)
    if not isinstance(value, FunctionType) or not value.__closure__:
        return value
    memo[id(value)] = value  # a function may hold itself
    held = [_content(cell) for cell in value.__closure__]
    found = [_bound(v, memo) for v in held]
    if any(a is not b for a, b in zip(held, found, strict=True)):
        memo[id(value)] = _remade(value, found)
    return memo[id(value)]


def _remade(f: FunctionType, held: list[object]) -> FunctionType:
    cells = tuple(type((lambda x: lambda: x)(v).__closure__[0])(v) for v in held)  # type: ignore
    made = FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, cells)
    made.__kwdefaults__ = f.__kwdefaults__
    return made


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # a name not bound yet
        return None


def parameter_hooks(module: nn.Module) -> dict[str, list[object]]:
    """Gradient hooks of each parameter that has some."""
    named = module.named_parameters()
    return {n: list(p._backward_hooks.values()) for n, p in named if p._backward_hooks}


def refuse_hooks(module: nn.Module) -> None:
    """ValueError for hooks that have no meaning for clients' rows."""
    for name, p in module.named_parameters():
        if getattr(p, "_post_accumulate_grad_hooks", None):
            raise ValueError(
                f"model: parameter {name} has a post-accumulate gradient hook, and clients "
                "accumulate no .grad; use p.register_hook"
            )


def hooked(module: nn.Module) -> str:
    """Which hook or replaced forward makes `module(x)` more than its layers; "" for none."""
    everywhere = torch.nn.modules.module
    for kind in HOOKS:
        if getattr(everywhere, f"_global{kind}"):
            return f"a global module hook is registered ({f'_global{kind}'})"
    for name, m in module.named_modules():
        where = name or "the model"
        for kind in HOOKS:
            if getattr(m, kind):
                word = kind.strip("_").removesuffix("_hooks").replace("_", "-")
                return f"{where} has a {word} hook"
        if "forward" in vars(m) and not isinstance(m, torch.jit.ScriptModule):
            return f"{where} has its forward replaced"
    for name in parameter_hooks(module):
        return f"parameter {name} has a gradient hook"
    return ""
