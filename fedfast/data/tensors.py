"""`as_dense`: any array of a user as an ordinary tensor, or an error that names why not."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .pages import SMALL, file_at
from .size_limits import check_memory

_REAL = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_WHOLE = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
_READY = _REAL | _WHOLE
_WIDE = {torch.uint16, torch.uint32, torch.uint64}  # torch has hardly any operation on them
KNOWN = _READY | _WIDE | {torch.bool}


def as_dense(value: object, name: str) -> Tensor:
    """The same numbers as a dense tensor, contiguous, in native byte order, without lazy signs.

    value  a tensor, an array, or a table with `to_numpy` (pandas, polars, pyarrow)
    Views (strided, permuted, channels last, negated) are copied; dense ones are not, nor are files
    that are mapped (numpy.memmap). Raises
    TypeError/ValueError with `name` for sparse, quantized, meta, nested or complex tensors, for
    masked, structured or text arrays, and for objects that are not numbers of equal shape.
    """
    if isinstance(value, Tensor):
        return _of_tensor(value, name)
    export = getattr(value, "to_numpy", None)
    if not isinstance(value, np.ndarray | np.generic) and callable(export):
        value = _exported(value, export, name)
    if isinstance(value, np.ndarray | np.generic):
        return _of_tensor(_shared(as_dense_array(value, name)), name)
    raise TypeError(f"{name}: expected a tensor or an array; got {type(value).__name__}")


def as_dense_array(value: object, name: str) -> np.ndarray:
    """An array of numbers that is contiguous, writable and in native byte order."""
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.is_masked(value):
            raise ValueError(f"{name}: expected an array without masked values; got a masked array")
        value = value.data
    array = np.asarray(value)
    if array.dtype == object:
        array = _numbers_of_objects(array, name)
    widest = 16 if array.dtype.kind == "c" else 8
    if array.dtype.kind not in "biufc" or array.dtype.itemsize > widest:
        raise TypeError(f"{name}: expected an array of numbers; got dtype {array.dtype}")
    native = array.dtype.newbyteorder("=")
    # Axes of one element count as contiguous whatever their stride, which torch may refuse.
    steps = all(step >= 0 and step % array.itemsize == 0 for step in array.strides)
    whole = array.flags.writeable or _is_mapped(array)
    ready = array.flags.c_contiguous and whole and array.dtype.isnative and steps
    if not ready:  # torch warns when it shares memory that numpy holds read-only
        check_memory(name, array.nbytes)
    return np.asarray(array, order="C") if ready else np.array(array, dtype=native, order="C")


def _is_mapped(array: np.ndarray) -> bool:
    """Whether it is a file that was mapped to be read: nobody writes to samples."""
    return array.nbytes >= SMALL and file_at(array.ctypes.data) is not None


def _shared(array: np.ndarray) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def _exported(value: object, export: Callable[[], object], name: str) -> object:
    try:
        return export()
    except Exception as error:  # of another library: it may fail in any way
        kind = type(value).__name__
        raise TypeError(f"{name}: expected an array; got {kind} ({error})") from error


def _numbers_of_objects(array: np.ndarray, name: str) -> np.ndarray:
    """An array of Python objects as numbers, where it holds numbers or arrays of one shape."""
    try:
        found = np.array(array.tolist())
    except (ValueError, TypeError, OverflowError, RuntimeError):
        found = array
    if found.dtype.kind not in "biuf":
        what = "objects that are not numbers of equal shape"
        raise TypeError(f"{name}: expected an array of numbers; got dtype object, {what}")
    return found


def _is_dense(x: Tensor) -> bool:
    """Whether nothing need be done. Comes first: there may be a hundred thousand clients."""
    if type(x) is not Tensor or x.dtype not in _READY or x.layout != torch.strided:
        return False
    lazy = x.is_nested or x.is_meta or x.is_neg() or x.is_inference() or x.requires_grad
    return not lazy and x.is_contiguous()


def _of_tensor(value: Tensor, name: str) -> Tensor:
    if _is_dense(value):
        return value
    odd = _unreadable(value)
    if odd:
        raise TypeError(f"{name}: expected an ordinary dense tensor; got {odd}")
    x = value.detach().as_subclass(Tensor)
    if x.is_complex() or x.dtype not in KNOWN:
        raise TypeError(
            f"{name}: expected floats, uint8 images or integer tokens or labels; got {x.dtype}"
        )
    if not x.is_contiguous() or x.is_neg() or x.is_inference():
        check_memory(name, x.numel() * x.element_size())
    if x.is_inference():  # autograd refuses to save such tensors
        x = x.clone()
    # Channels-last strides would be kept by torch.cat: the format is asked for by name.
    return _narrowed(x.resolve_neg().contiguous(memory_format=torch.contiguous_format), name)


def _unreadable(value: Tensor) -> str | None:
    """What makes a tensor one whose numbers cannot simply be read."""
    if value.is_nested:
        return "a nested tensor"
    if value.layout != torch.strided:
        return (
            f"a sparse one, {value.layout}" if "sparse" in str(value.layout) else "another layout"
        )
    if value.is_quantized:
        return f"a quantized one, {value.dtype}"
    if value.is_meta:
        return "a meta tensor, which has no values"
    if type(value).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return type(value).__name__  # a wrapper with numbers of its own, as MaskedTensor
    return None


def _narrowed(x: Tensor, name: str) -> Tensor:
    """Wide unsigned integers as int64, or ValueError where they do not fit."""
    if x.dtype not in _WIDE:
        return x
    made = x.to(torch.int64)
    if x.dtype == torch.uint64 and bool((made < 0).any()):
        raise ValueError(f"{name}: expected integers below 2^63; got larger ones of torch.uint64")
    return made
