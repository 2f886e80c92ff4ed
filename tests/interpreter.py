"""Triton's interpreter without work that comes to nothing; it computes the same.

In every call of one kernel function by another it searches the whole language for functions to
replace, which the launch has replaced already. Sums of integers are computed a second time in
64 bits, for an assertion that the interpreter leaves out. And every value is given a shape, a type
with a name, and a table of NumPy's types, made anew: a quarter of all time.

Products of float64 tiles are added column after column (`in_order`): what NumPy's library gives for
an element depends on the tile's sides, on tensor cores it does not.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from triton.language import core
from triton.runtime import interpreter

_replace = interpreter._patch_lang
_of: dict[Any, set[int]] = {}  # a function: modules of the language that it sees
_replaced: set[int] = set()  # those of this process


def _replaced_once(function: Any) -> Any:
    """A scope that puts nothing back."""
    if function not in _of:
        language = {id(interpreter.tl), id(interpreter.tl.core)}
        _of[function] = language & {id(value) for value in function.__globals__.values()}
    if _of[function] - _replaced:
        _replace(function)
        _replaced.update(_of[function])
    return interpreter._LangPatchScope()


def hasten() -> None:
    """For all launches of this process, none of which compiles."""
    builder = interpreter.interpreter_builder
    builder.options = replace(builder.options, sanitize_overflow=builder.options.debug)
    interpreter._patch_lang = _replaced_once
    interpreter._get_np_dtype = _numpys
    core.tensor.__init__ = _value
    core.block_type.__init__ = _block


@cache
def _shape(sizes: tuple[int, ...]) -> tuple[Any, Any, int]:
    """As types have it, as values have it, and how many elements that is."""
    of_values = core.tuple([core.constexpr(n) for n in sizes])
    return core.tuple(sizes), of_values, core.validate_block_shape(sizes) if sizes else 1


@cache
def _name(sizes: tuple[int, ...], element: str) -> str:
    return f"<{core.tuple(sizes)}, {element}>"


def _block(self: Any, element_ty: Any, shape: Any) -> None:
    """`block_type.__init__`"""
    sizes = tuple(core._unwrap_if_constexpr(n) for n in shape)
    if not sizes:
        raise TypeError("0d block_type is forbidden")
    self.element_ty = element_ty
    self.shape, _, self.numel = _shape(sizes)
    self.name = _name(sizes, str(element_ty))


def _value(self: Any, handle: Any, type: Any) -> None:
    """`tensor.__init__`"""
    sizes = tuple(type.shape) if type.is_block() else ()
    _, self.shape, count = _shape(sizes)
    self.handle, self.type, self.dtype = handle, type, type.scalar
    self.numel = core.constexpr(count)


_dtypes: dict[str, np.dtype] = {}
_make_numpys = interpreter._get_np_dtype


def _numpys(tt_dtype: Any) -> np.dtype:
    """`_get_np_dtype`"""
    name = tt_dtype.scalar.name
    if name not in _dtypes:
        _dtypes[name] = _make_numpys(tt_dtype)
    return _dtypes[name]


def ordered_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`a b`, each element's products added one after another."""
    terms = np.empty((a.shape[1], a.shape[0], b.shape[1]))
    np.multiply(a.T[:, :, None], b[:, None, :], out=terms)
    return np.add.reduce(terms, axis=0)


def in_order() -> None:
    """Products of float64 tiles are `ordered_product`s, for all launches of this process."""
    builder = interpreter.InterpreterBuilder
    library = builder.create_dot

    def create_dot(self: Any, a: Any, b: Any, d: Any, *how: Any) -> Any:
        if a.data.dtype != np.float64:
            return library(self, a, b, d, *how)
        return interpreter.TensorHandle(ordered_product(a.data, b.data) + d.data, d.dtype.scalar)

    builder.create_dot = create_dot
