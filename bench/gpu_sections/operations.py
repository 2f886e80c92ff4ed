"""Section `operations`: every form of every operation, as the tests call it, on the device.

Each is launched once in float32 and float64, its results compared with the reference's in float64,
and a client alone with the same client in company, to the bit. Forms and comparison are those of
`tests/`; a row has the worst of an operation's errors as a share of what the tests permit.
Products of the default precision have to be as exact as float32, as docs/gpu.md states it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from copy import deepcopy
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from fedfast import kernels
from gpu_sections import compiling
from gpu_sections.campaign import Campaign, normal

sys.path.append(str(Path(__file__).parents[2] / "tests"))

DTYPES = (torch.float32, torch.float64)
ABOVE = 1e-6  # float32's error, as a share of the sum of the products' magnitudes: `test_tf32x3.py`


def run(campaign: Campaign) -> None:
    """One form of every operation in float32 before all others; what fails is a row."""
    with compiling.counted(campaign):
        with campaign.trying("products"):
            _exactness(campaign)
        for first in (True, False):
            for operation in order():
                _operation(campaign, operation, first)


def launches(campaign: Campaign) -> None:
    """What a campaign launches here, for `compiling.py`."""
    from operation_calls import make

    with campaign.trying("products"):
        _exactness(campaign)
    for first in (True, False):
        for operation in order():
            for name, form, dtype in _cases(operation, campaign.rehearsal, first):
                with campaign.trying(f"{operation} {name}"):
                    make(operation, form, 3, dtype).on(campaign.device).run("triton")
                    make(operation, form, 3, dtype).client(2).on(campaign.device).run("triton")


def order() -> list[str]:
    """Operations, those of most code first, since compiling is what takes time."""
    from operation_forms import CASES

    return sorted(CASES, key=lambda operation: not operation.startswith("conv"))


def _exactness(campaign: Campaign) -> None:
    """Errors of products by precision, of numbers of one sign, whose sums are cut off most."""
    batch, depth, outputs = campaign.pick(50, 5), campaign.pick(3136, 20), campaign.pick(512, 4)
    x, w = normal(campaign, 2, batch, depth).abs(), normal(campaign, 2, outputs, depth).abs()
    exact, found = x.double() @ w.double().mT, {}
    for precision in ("fp32", "tf32x3", "tf32"):
        out = kernels.linear(x, w, precision=precision, backend="triton")
        found[precision] = float(((out.double() - exact) / exact).abs().max())
        campaign.row(f"product {precision}", "error", found[precision], "of sum")
    above = found["tf32x3"] - found["fp32"]
    campaign.row("product tf32x3", "above float32", above, "of sum", headline=above > ABOVE)


def _operation(campaign: Campaign, operation: str, first: bool) -> None:
    subject = f"{operation}, first form" if first else operation
    apart, worst, calls = 0, 0.0, 0
    for name, form, dtype in _cases(operation, campaign.rehearsal, first):
        with campaign.trying(f"{operation} {name} {str(dtype)[6:]}"):
            worst = max(worst, _share(campaign, operation, form, dtype))
            apart += _alone(campaign, operation, form, dtype)
            calls += 1
    campaign.row(subject, "calls", float(calls))
    campaign.row(subject, "error", worst, "of bar", headline=worst > 1)
    campaign.row(subject, "not alike alone", float(apart), "", headline=apart > 0)


def _cases(
    operation: str, rehearsal: bool, first: bool
) -> Iterator[tuple[str, dict[str, Any], torch.dtype]]:
    """The first case, or all others."""
    every = _every(operation, rehearsal)
    yield from islice(every, 1) if first else islice(every, 1, None)


def _every(operation: str, rehearsal: bool) -> Iterator[tuple[str, dict[str, Any], torch.dtype]]:
    """Every form in its small sizes, and in those of compiled backends; one where interpreted.

    Products in the default precision too, which no float64 has.
    """
    from operation_forms import CASES

    cases = CASES[operation]
    sizes = cases.small[:1] if rehearsal else cases.small + cases.native
    forms = list(cases.forms.items())[: 1 if rehearsal else None]
    multiplies = "precision" in signature(getattr(kernels, operation)).parameters
    for name, form in forms:
        for given in (form | size for size in sizes):
            for dtype in DTYPES:
                yield name, given, dtype
            if multiplies:
                yield f"{name} tf32x3", given | {"precision": "tf32x3"}, torch.float32


def _share(campaign: Campaign, operation: str, form: dict[str, Any], dtype: torch.dtype) -> float:
    """The largest error, in units of the permitted one."""
    from operation_calls import make
    from operation_checks import errors

    call = make(operation, form, 3, dtype).on(campaign.device)
    found = errors(operation, form, 3, call, dtype, "triton")
    return max(error / bar for error, bar in found.values())


def _alone(campaign: Campaign, operation: str, form: dict[str, Any], dtype: torch.dtype) -> int:
    """How many results of the last of three clients differ from those of the client alone."""
    from operation_calls import equal, make
    from operation_checks import of_clients, results

    drawn = make(operation, form, 3, dtype)
    call, one = deepcopy(drawn).on(campaign.device), drawn.client(2).on(campaign.device)
    company = of_clients(operation, call, results(call, "triton"))
    alone = of_clients(operation, one, one.run("triton"))
    return sum(not equal(v[0], company[n][2]) for n, v in alone.items() if n in company)
