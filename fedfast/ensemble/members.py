"""K modules with initial weights of their own, as torch gives them under K seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .._messages import format_value
from ..copies import copy_of, refuse_hooks
from ..random import check_seed
from ..random_state import kept_random_state, seed_all

Model = nn.Module | Callable[[], nn.Module] | Sequence[nn.Module]


def seeds_of(seed: int | Sequence[int], count: int) -> list[int]:
    """seed, seed + 1, ..., or the given ones; TypeError/ValueError naming `seed`."""
    if isinstance(seed, (list, tuple, range)):
        if len(seed) != count:
            raise ValueError(f"seed: expected a number or K = {count} of them; got {len(seed)}")
        return [check_seed(each) for each in seed]
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f"seed: expected an integer or a list of them; got {format_value(seed)}")
    return [check_seed(seed + k) for k in range(count)]


def members(model: Model, count: int, seeds: Sequence[int]) -> list[nn.Module]:
    """K modules; the user's random generators and modules stay as they are.

    Raises TypeError/ValueError naming `model`.
    """
    if isinstance(model, (list, tuple)):
        made = _given(model, count)
    elif isinstance(model, nn.Module):
        made = [_renewed(model, seed) for seed in seeds]
    elif callable(model):
        made = [_called(model, seed) for seed in seeds]
    else:
        raise TypeError(
            "model: expected an nn.Module, a function that makes one, or a list of K modules; got "
            f"{format_value(model)}"
        )
    for module in made:
        refuse_hooks(module)
    if not any(p.requires_grad for p in made[0].parameters()):
        raise ValueError("model: it has no parameter to train")
    _check_alike(made)
    return made


def _given(modules: Sequence[nn.Module], count: int) -> list[nn.Module]:
    if len(modules) != count:
        raise ValueError(f"model: expected K = {count} modules; got {len(modules)}")
    for module in modules:
        if not isinstance(module, nn.Module):
            raise TypeError(f"model: expected a list of modules; got {format_value(module)} in it")
    return [copy_of(module) for module in modules]


def _called(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """What `torch.manual_seed(seed); make()` gives."""
    with kept_random_state():
        seed_all(seed)
        made = make()
    if not isinstance(made, nn.Module):
        raise TypeError(f"model: expected the function to return an nn.Module; got {made!r:.80}")
    return copy_of(made)  # a function may return the same module again


def _renewed(module: nn.Module, seed: int) -> nn.Module:
    """A copy whose submodules' `reset_parameters` have run, in the order of `modules()`."""
    made = copy_of(module)
    with kept_random_state():
        seed_all(seed)
        for name, part in made.named_modules():
            reset = getattr(part, "reset_parameters", getattr(part, "_reset_parameters", None))
            if callable(reset):
                reset()
            elif any(p.requires_grad for p in part.parameters(recurse=False)):
                raise ValueError(
                    f"model: {name or type(part).__name__} has parameters and no reset_parameters "
                    "that draws them anew: give a function that makes the model, `lambda: Net()`, "
                    "or a list of K modules"
                )
    return made


def _check_alike(modules: Sequence[nn.Module]) -> None:
    """Whether all have the same trained and frozen tensors, of the same shapes."""
    first = _form(modules[0])
    for k, module in enumerate(modules[1:], 1):
        form = _form(module)
        for name in first.keys() | form.keys():
            if first.get(name) != form.get(name):
                raise ValueError(
                    f"model: expected K modules of one architecture; {name} is "
                    f"{first.get(name, 'absent')} in model 0, {form.get(name, 'absent')} in {k}"
                )


def _form(module: nn.Module) -> dict[str, str]:
    named: dict[str, Tensor] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {
        name: f"{list(t.shape)} {t.dtype}{'' if t.requires_grad else ' (not trained)'}"
        for name, t in named.items()
    }


def differing(modules: Sequence[nn.Module]) -> frozenset[str]:
    """Names of frozen parameters and buffers that are not the same in all modules."""
    still = [
        {n: t for n, t in m.named_parameters() if not t.requires_grad} | dict(m.named_buffers())
        for m in modules
    ]
    first = still[0]
    return frozenset(n for n in first if not all(torch.equal(first[n], s[n]) for s in still[1:]))
