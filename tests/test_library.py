"""Products by cuDNN and cuBLAS (`kernels/library/`), whose place on the CPU torch's own take.

Results are those of the reference in float64; a library sees one shape whatever K is, so that a
client's bits depend neither on K nor on its company.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from federation import federation, mlp
from fedfast.kernels.library.candidates import CANDIDATES
from fedfast.kernels.triton import common
from layer_cases import same
from operation_calls import make
from operation_checks import counted, errors, results
from operation_forms import CASES
from operation_inputs import Form
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import fedfast
from fedfast import kernels

pytest.importorskip("triton", reason="Triton is not installed on this platform")
pytestmark = [
    pytest.mark.skipif(not common.INTERPRETED, reason="bench/gpu.py tries them on a device"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
EVERY = [(how.name, name) for how in CANDIDATES.values() for name in sorted(how.operations)]
COMPANY = [pair for pair in EVERY if "-5" in pair[0]]
every_candidate = pytest.mark.parametrize(("candidate", "operation"), EVERY)
in_company = pytest.mark.parametrize(("candidate", "operation"), COMPANY)
aten = torch.ops.aten
PRODUCTS = (aten.convolution, aten.convolution_backward, aten.bmm)


def forms(operation: str, candidate: str) -> Iterator[Form]:
    """Every form in one size; candidates and forms share the sizes among them."""
    cases, at = CASES[operation], list(CANDIDATES).index(candidate)
    for i, form in enumerate(cases.forms.values()):
        yield form | cases.small[(at + 5 * i) % len(cases.small)]


@every_candidate
def test_against_the_reference(candidate: str, operation: str) -> None:
    for dtype in (torch.float32, torch.float64):
        for given, clients in zip(forms(operation, candidate), (6, 2) * 9, strict=False):
            call = make(operation, given, clients, dtype)
            found = errors(operation, given, clients, call, dtype, candidate)
            assert {name: e for name, e in found.items() if not e[0] <= e[1]} == {}


@in_company
def test_a_client_alone_equals_the_client_in_company(candidate: str, operation: str) -> None:
    """At every place of a block, of a full one and of one that is filled up."""
    cases, clients = CASES[operation], 7
    for form in cases.forms.values():
        drawn = make(operation, form | cases.small[-1], clients)
        company = results(deepcopy(drawn), candidate)
        for k in range(clients):
            alone = deepcopy(drawn).client(k).run(candidate)
            for name, value in counted(operation, alone).items():
                same(value[0], company[name][k])


@in_company
def test_a_diverged_client_spoils_no_other(candidate: str, operation: str) -> None:
    cases = CASES[operation]
    drawn = make(operation, next(iter(cases.forms.values())) | cases.small[-1], 4)
    spoiled = deepcopy(drawn)
    assert spoiled.spoil(1, float("nan"))
    whole, found = results(drawn, candidate), results(spoiled, candidate)
    for name, value in whole.items():
        for k in (0, 2, 3):
            same(found[name][k], value[k])


class Seen(TorchDispatchMode):
    """What libraries are asked for: operation, shapes, and whether operands are aligned."""

    def __init__(self) -> None:
        super().__init__()
        self.products: set[Any] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in PRODUCTS:
            self.products.add((func, *map(_as_asked, args)))
        return func(*args, **(kwargs or {}))


def _as_asked(given: Any) -> Any:
    """A tensor as a library chooses by it."""
    if not isinstance(given, Tensor):
        return tuple(given) if isinstance(given, list) else given
    apart = [given.stride(0) * given.element_size() % 16] if given.ndim == 3 else []
    return tuple(given.shape), given.stride()[1:], given.data_ptr() % 16, *apart


@in_company
def test_a_library_sees_one_shape_whatever_k_is(candidate: str, operation: str) -> None:
    """Of 70 x 17 floats only every second client's would begin at a multiple of 16 bytes."""
    cases, seen = CASES[operation], []
    for clients in (1, 3, 5, 7, 10):
        with Seen() as mode:
            make(operation, next(iter(cases.forms.values())) | cases.small[-1], clients).run(
                candidate
            )
        seen.append(mode.products)
    assert seen[0] and all(found == seen[0] for found in seen)


@pytest.mark.parametrize("precision", ["fp32", "tf32x3", "tf32"])
def test_algorithms_are_deterministic_and_rounding_is_permitted(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a library is called; then the user's own switches are back, after errors as well."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    x, weight = torch.randn(2, 3, 2, 6, 6), torch.randn(2, 4, 2, 3, 3)
    before, inside = (cudnn.benchmark, cudnn.deterministic, matmul.allow_tf32), []

    def watched(*args: Any) -> Tensor:
        inside.append((cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, matmul.allow_tf32))
        raise ZeroDivisionError

    monkeypatch.setattr(torch.nn.functional, "conv2d", watched)
    monkeypatch.setattr(cudnn, "benchmark", True)
    with pytest.raises(ZeroDivisionError):
        kernels.conv(x, weight, precision=precision, backend="cudnn-5")
    assert inside == [(False, True, precision == "tf32", precision == "tf32")]
    assert cudnn.benchmark
    monkeypatch.undo()
    assert (cudnn.benchmark, cudnn.deterministic, matmul.allow_tf32) == before


def test_a_library_has_products_alone() -> None:
    row, x = torch.ones(2, 3), torch.ones(2, 3, 4)
    with pytest.raises(ValueError, match="backend: expected one that has mix; got 'cublas-5'"):
        kernels.mix(row, row, backend="cublas-5")
    with pytest.raises(ValueError, match="backend: expected one that has linear; got 'cudnn-5'"):
        kernels.linear(x, torch.ones(2, 5, 4), backend="cudnn-5")
    with pytest.raises(ValueError, match="got 'cublas-7'") as error:
        kernels.linear(x, torch.ones(2, 5, 4), backend="cublas-7")
    assert "expected one of auto, native, triton, reference;" in str(error.value)
    with pytest.raises(ValueError, match="backend: .*'cudnn-5'"):
        fedfast.Ensemble(torch.nn.Linear(2, 3), K=2, backend="cudnn-5")
    with pytest.raises(ValueError, match="backend: .*'cudnn-5'"):
        fedfast.Simulation(mlp(), federation([4]), "fedavg", rounds=1, backend="cudnn-5")
