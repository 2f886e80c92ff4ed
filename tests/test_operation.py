"""One declaration per operation: every implementation and the compiled module agree with it."""

from __future__ import annotations

from dataclasses import replace
from inspect import signature
from typing import Any

import pytest
import torch
from fedfast.kernels import native, registry
from fedfast.kernels.declaration import OPERATIONS, In, Operation, Out, Terms, accepts_none
from fedfast.kernels.operation import operation
from operation_calls import make
from operation_forms import CASES
from torch import Tensor

from fedfast import kernels

TILED = registry.folder("fedfast.kernels.triton")
PLAIN = registry.folder("fedfast.kernels.reference")


@pytest.mark.parametrize("name", list(OPERATIONS))
@pytest.mark.parametrize("find", [PLAIN, TILED], ids=["reference", "triton"])
def test_implementations_take_the_declared_arguments_in_order(name: str, find: Any) -> None:
    assert callable(find(OPERATIONS[name]))


def test_an_implementation_with_other_arguments_is_refused() -> None:
    mix = OPERATIONS["mix"]
    swapped = replace(mix, items=(mix.items[1], mix.items[0], *mix.items[2:]))
    with pytest.raises(TypeError, match=r"mix: takes \('x', 'y'.* declared \('y', 'x'"):
        PLAIN(swapped)


def test_every_public_operation_is_declared() -> None:
    composed = {"layer_norm", "layer_norm_backward"}  # of group_norm
    composed |= {"fetch", "advance"}  # of gather and sums, where no graph repeats them
    plain = {
        "Column",
        "Counted",
        "Lanes",
        "PlacedRows",
        "Plan",
        "Segments",
        "Server",
        "Soon",
        "StepsCall",
    }
    plain |= {"OPERATIONS", "cosines", "norms"}
    assert set(kernels.__all__) - plain - composed - {"feed", "tally", "turn"} == set(OPERATIONS)
    assert all(callable(getattr(kernels, name)) for name in OPERATIONS)


def test_a_signature_that_differs_from_the_declaration_is_refused() -> None:
    with pytest.raises(TypeError, match="wrong: y, z: not both in the signature and declared"):

        @operation(In("x", "K S"), In("y", "K S"))
        def wrong(x: Tensor, z: Tensor, backend: str = "auto") -> None: ...


def declared(operation: str, **changes: Any) -> Operation:
    return replace(OPERATIONS[operation], **changes)


def fields(name: str) -> list[tuple[str, str]]:
    return list(native.module.fields()[name])


def test_a_field_that_the_declaration_lacks_is_named() -> None:
    with pytest.raises(ImportError, match="linear, field 'gain': the declaration lacks it"):
        native.compare(OPERATIONS["linear"], [*fields("linear"), ("gain", "in float")])


def test_a_field_that_the_module_lacks_is_named() -> None:
    without = [f for f in fields("linear_backward") if f[0] != "base_bias"]
    with pytest.raises(ImportError, match="linear_backward, field 'base_bias': the module lacks"):
        native.compare(OPERATIONS["linear_backward"], without)
    with pytest.raises(ImportError, match="blend, field 'blend': the module lacks it"):
        native.compare_all([declared("mix", name="blend")])


def test_a_field_of_another_kind_is_named() -> None:
    reads = tuple(Out("y", "K S") if i.name == "y" else i for i in OPERATIONS["mix"].items)
    with pytest.raises(ImportError, match="mix, field 'y': it is 'out float' there, 'in float' in"):
        native.compare(declared("mix", items=reads), fields("mix"))


def test_an_operation_of_the_compiled_module_counts_its_arguments() -> None:
    with pytest.raises(TypeError, match="mix: expected 10 arguments; got 2"):
        native.module.mix(False, 3)


def test_a_backend_is_one_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(registry, "_BACKENDS", dict(registry._BACKENDS))
    noop = registry.Backend("noop", lambda declared: lambda *_: calls.append(declared.name))
    registry.register(noop)
    bank = torch.ones(2, 3)
    assert kernels.mix(bank, bank, out=bank, backend="noop") is bank
    assert calls == ["mix"] and bool((bank == 1).all())
    assert registry.capabilities("noop", bank) == registry.Capabilities()
    with pytest.raises(ValueError, match="backend: expected one of .*noop; got 'none'"):
        kernels.mix(bank, bank, backend="none")


def test_a_backend_is_chosen_by_device_and_states_what_it_can_do() -> None:
    assert registry.capabilities("auto", torch.ones(1)).plans
    assert not registry.capabilities("reference", torch.ones(1)).plans
    with pytest.raises(ValueError, match="backend='auto' serves cpu and cuda tensors"):
        registry.choose("auto", torch.ones(1, device="meta"))


def called_with(name: str, **changes: Any) -> None:
    """A valid call of the operation, with these arguments instead."""
    cases = CASES[name]
    call = make(name, next(iter(cases.forms.values())) | (cases.small + cases.native)[0], 2)
    getattr(kernels, name)(**(call.arguments | changes))


def required_tensors() -> list[tuple[str, str]]:
    return [
        (name, item.name)
        for name, declared in OPERATIONS.items()
        for item in declared.items
        if item.public
        and (item.shape or isinstance(item, Terms))
        and not accepts_none(signature(getattr(kernels, name)).parameters[item.name])
    ]


@pytest.mark.parametrize(("name", "argument"), required_tensors())
def test_none_for_a_required_tensor_is_refused_by_name(name: str, argument: str) -> None:
    with pytest.raises(TypeError, match=rf"^{argument}: expected .*got None$"):
        called_with(name, **{argument: None})


def test_a_declaration_that_contradicts_its_signature_is_refused() -> None:
    with pytest.raises(TypeError, match="wrong: y: declared optional, its annotation has no None"):

        @operation(In("x", "K S"), Out("y", "K S", optional=True))
        def wrong(x: Tensor, y: Tensor, backend: str = "auto") -> None: ...

    with pytest.raises(TypeError, match="wrong: y: its annotation has None, not declared"):

        @operation(In("x", "K S"), In("y", "K S"))
        def wrong(x: Tensor, y: Tensor | None = None, backend: str = "auto") -> None: ...

    with pytest.raises(TypeError, match="wrong: x: its default is None, its annotation has none"):

        @operation(In("x", "K S"))
        def wrong(x: Tensor = None, backend: str = "auto") -> None: ...

    with pytest.raises(TypeError, match="wrong: backend: not the last parameter"):

        @operation(In("x", "K S"))
        def wrong(backend: str, x: Tensor) -> None: ...

    assert "wrong" not in OPERATIONS
