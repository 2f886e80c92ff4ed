"""Which loads the values of a program come from, in Triton's interpreter.

`install` has every value say so, in two sets of numbers that loads have:

- `elements`: element i of the value follows from element i of what was loaded;
- `all`: besides, what sums, products of tiles and moved elements had to wait for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from triton.runtime import interpreter

ELEMENTWISE = (
    *("binary_op", "unary_op", "ternary_op", "cast_impl", "create_fp_to_fp", "create_bitcast"),
    *("create_idiv", "create_ashr", "create_umulhi", "create_clampf", "create_fma", "create_fabs"),
    *("create_erf", "create_rsqrt", "create_addptr", "create_broadcast", "create_expand_dims"),
    "create_splat",
)
MOVING = (
    *("create_trans", "create_reshape", "create_dot", "create_cat", "create_join", "create_split"),
    *("create_gather", "create_histogram", "create_unsplat"),
)


class Origins(NamedTuple):
    """Of a value."""

    elements: frozenset[int] = frozenset()
    all: frozenset[int] = frozenset()


NOWHERE = Origins()


def origins(*values: Any) -> Origins:
    """Of what is computed from these, element by element."""
    known = [o for value in values if (o := getattr(value, "origins", NOWHERE)) is not NOWHERE]
    if len(known) < 2:
        return known[0] if known else NOWHERE
    return Origins(frozenset().union(*(o.elements for o in known)), _together(known))


def _together(known: list[Origins]) -> frozenset[int]:
    return frozenset().union(*(o.all for o in known))


def _note(results: Any, found: Origins) -> Any:
    if found is not NOWHERE:
        for result in results if isinstance(results, tuple) else (results,):
            result.origins = found
    return results


def _elementwise(operation: Callable[..., Any]) -> Callable[..., Any]:
    def noted(self: Any, *operands: Any) -> Any:
        return _note(operation(self, *operands), origins(*operands))

    return noted


def _moving(operation: Callable[..., Any]) -> Callable[..., Any]:
    def noted(self: Any, *operands: Any) -> Any:
        found = origins(*operands)
        return _note(operation(self, *operands), found and Origins(all=found.all))

    return noted


def _reducing(apply: Callable[..., Any]) -> Callable[..., Any]:
    """`tl.reduce` and scans, whose operands and results are tensors around values."""

    def noted(self: Any, given: Any) -> Any:
        results = apply(self, given)
        operands = given if isinstance(given, tuple) else (given,)
        found = Origins(all=origins(*(t.handle for t in operands)).all)
        for result in results if isinstance(results, tuple) else (results,):
            result.handle.origins = found
        return results

    return noted


def install() -> None:
    """For all launches of the process."""
    builder, reducing = interpreter.InterpreterBuilder, interpreter.ReduceScanOpInterface
    for names, noting in ((ELEMENTWISE, _elementwise), (MOVING, _moving)):
        for name in names:
            setattr(builder, name, noting(getattr(builder, name)))
    reducing.apply = _reducing(reducing.apply)
