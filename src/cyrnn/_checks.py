"""Checks that explain, and conversions: what a kernel refused is named or made to fit here.

Every function takes the argument's name as the caller spells it, for the message.  Nothing that is
passed is modified.  An array that already is of the dtype of the call, aligned and of the right shape comes back as
it is; everything else that holds real numbers is converted.

For the arrays of an LSTM at the notebook's sizes they would take about as long as the call itself, so
they run only when they are needed (docs/design.md).
"""

import math
import os
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _kernels
from ._kernels.runtime import lengths as _lengths

Array = NDArray[np.float64]  # or of numpy.float32, where a call has that dtype
Parameters = Mapping[str, Any]

FLOAT64, FLOAT32 = np.dtype(np.float64), np.dtype(np.float32)
DType = np.dtype[Any]
Used = Callable[[tuple[int, ...]], Any]  # of an array's shape: which of its numbers are read, a mask that broadcasts
INTP = np.dtype(np.intp)  # of indices
BELOW_1 = "a number from 0 up to, not including, 1", 0.0, math.nextafter(1.0, 0.0)  # as `number` takes it
MOST_COLUMNS = _lengths.MAX_COLUMNS  # examples times steps

# A function first calls its kernel with the arguments as they are: the kernel checks
# every argument and refuses whatever does not fit, for a microsecond a call at most.  It
# does so with one of these; then the checks of this module convert the arguments or name the culprit.
MISFIT = (AttributeError, BufferError, IndexError, KeyError, TypeError, ValueError)


def kernels(dtype: Any) -> _kernels.Kernels:
    """Return the kernels of the caller's `dtype`."""
    if dtype is np.float64:
        return _kernels.f64
    if dtype is np.float32:
        return _kernels.f32
    expected = f"dtype: expected numpy.float64 or numpy.float32, got {dtype!r}"
    try:
        if dtype is None:
            raise TypeError("NumPy takes None for float64")
        found = np.dtype(dtype)
    except TypeError as error:
        raise TypeError(expected) from error
    if found not in (FLOAT64, FLOAT32):
        raise ValueError(expected)
    return _kernels.of(found)


def kernels_for(*arrays: Any) -> _kernels.Kernels:
    """Return the kernels for arrays: of float32 if all are arrays of float32, else of float64."""
    for array in arrays:
        if not isinstance(array, np.ndarray) or array.dtype != FLOAT32:
            return _kernels.f64
    return _kernels.f32 if arrays else _kernels.f64


class Missing(KeyError):
    """A KeyError whose message is a sentence, and is shown as one."""

    def __str__(self) -> str:
        return str(self.args[0])


def _refuse_masked(name: str, value: Any) -> None:
    """Refuse an array with masked values, also in a list of arrays, which NumPy would join without their masks."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        masked = int(np.ma.getmaskarray(value).sum())
        raise ValueError(f"{name}: expected an array of valid numbers, got one with {masked} of {value.size} masked")
    if isinstance(value, (list, tuple)) and value and not isinstance(value[0], (int, float)):
        for k, entry in enumerate(value):
            _refuse_masked(f"{name}[{k}]", entry)


def any_array(name: str, value: Any, letters: str = "") -> NDArray[Any]:
    """Return `value` as an array of any type; the letters of the shape it should have are for the message.

    Raises
    ------
    TypeError, ValueError
        If values of it are masked, it is a ragged nested sequence, or its conversion fails.
    """
    _refuse_masked(name, value)
    try:
        return np.asarray(value)
    except MemoryError:
        raise
    except Exception as error:  # of the object's own conversion, whatever it is
        if "inhomogeneous" in str(error):
            got = _unpadded(name, value, letters) or "a ragged nested sequence"
            raise ValueError(f"{name}: expected an array of numbers, got {got}") from error
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        got = f"{type(value).__name__}, whose conversion to one failed ({reason})"
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{name}: expected an array of numbers, got {got}") from error


def _unpadded(name: str, value: Any, letters: str) -> str:
    """Tell what a list of sequences of different lengths is and how to pad it; "" if `value` is none."""
    if not letters.endswith("m, T_x") or not isinstance(value, (list, tuple, np.ndarray)) or not len(value):
        return ""
    try:
        shapes = [np.shape(entry) for entry in value]
    except Exception:  # a sequence that is ragged itself, say
        return ""
    first, dimensions, given, then = shapes[0], {len(shape) for shape in shapes}, name, ""
    if dimensions == {1}:
        indices = all(np.asarray(entry).dtype.kind in "iu" for entry in value)
        if indices and letters != "m, T_x" and not letters.startswith("n_x"):
            then = f", {name} = {name}[None]"  # they are numbers of one unit
        elif not indices and letters == "m, T_x":
            then = f", {name} = {name}[0]"
    elif dimensions == {2} and {shape[1] for shape in shapes} == {first[1]}:
        pass
    elif dimensions == {2} and {shape[0] for shape in shapes} == {first[0]}:
        given, shapes = f"[numpy.transpose(s) for s in {name}]", [shape[1:] for shape in shapes]
    else:
        return ""
    steps = [shape[0] for shape in shapes]
    return (
        f"{len(steps)} sequences of {min(steps)} to {max(steps)} steps: pad them, {name}, lengths = "
        f"cyrnn.pad_sequences({given}){then}, and pass their `lengths`"
    )


def no_numbers(name: str, value: Any, array: NDArray[Any], letters: str = "") -> str:
    """Tell what an array holds that is not of the numbers wanted, and the way out where there is one."""
    if value is None:
        return "None"
    if array.dtype.names:
        columns = ", ".join(array.dtype.names)
        return f"the columns {columns}; numpy.lib.recfunctions.structured_to_unstructured makes an array of them"
    if array.dtype.kind != "O":
        return f"dtype {array.dtype}"
    kind = type(value).__name__
    for entry in array.flat:
        if hasattr(entry, "toarray"):
            return f"a sparse {type(entry).__name__}, of which toarray() makes an array"
    if array.ndim == 2 and hasattr(value, "columns"):
        for column, entries in zip(value.columns, array.T, strict=True):
            for entry in (entry for entry in entries if not isinstance(entry, Real)):
                pandas = isinstance(entry, str) and hasattr(value, "select_dtypes")
                how = f", as {name}.select_dtypes('number') does" if pandas else ""
                return f"a {kind} with {entry!r} in column {column!r}; leave out or convert such columns{how}"
    sequences = array.ndim == 1 and all(isinstance(entry, (list, tuple, np.ndarray)) for entry in array)
    return (sequences and _unpadded(name, array, letters)) or f"{kind} of objects"


def real(name: str, value: Any, letters: str = "", dtype: DType = FLOAT64, used: Used | None = None) -> Array:
    """Return `value` as an aligned array of this dtype, of any layout.

    Types of other packages that fit into float64 (bfloat16 of ml_dtypes) are numbers too.  The letters are for the
    message: those of the shape that it should have.

    Raises
    ------
    TypeError
        If it does not hold real numbers.
    ValueError
        If it is a ragged nested sequence, or holds a finite number that is too large for the dtype and is `used`.
    """
    if type(value) is np.ndarray and value.dtype is dtype and value.flags.carray and value.size:
        return value
    array = any_array(name, value, letters)
    numbers = Real, Decimal
    if array.dtype.kind == "O" and array.size and not [entry for entry in array.flat if not isinstance(entry, numbers)]:
        try:
            array = array.astype(FLOAT64)
        except (OverflowError, ValueError) as error:
            raise ValueError(f"{name}: expected numbers that a float64 can hold, got {error}") from error
    if array.dtype.kind not in "fiub" and (array.dtype.kind != "V" or not np.can_cast(array.dtype, FLOAT64)):
        raise TypeError(f"{name}: expected real numbers, got {no_numbers(name, value, array, letters)}")
    with np.errstate(over="ignore"):
        aligned: Array = _aligned(array, dtype)
    if array.dtype.kind == "f" and array.dtype.itemsize > dtype.itemsize:
        fits(name, array, aligned, used)
    return aligned


def fits(name: str, before: NDArray[Any], after: NDArray[Any], used: Used | None = None) -> None:
    """Refuse finite numbers that became infinite in another dtype."""
    infinite = np.isinf(after)
    if infinite.any() and (infinite := infinite & np.isfinite(before)).any():
        for at in np.argwhere(infinite if used is None else infinite & used(before.shape))[:1].tolist():
            got = f"got {before[tuple(at)]!s} at {at}"
            raise ValueError(f"{name}: expected numbers that {after.dtype} can hold, {got}")


def within(kept: bytes, T_x: int) -> NDArray[np.bool_]:
    """Return which of T_x steps the examples have, (m, T_x), of lengths as `lengths` returns them."""
    return np.arange(T_x) < np.frombuffer(kept, np.intp)[:, None]


def used_steps(given: Any) -> Used:
    """Return what of a sequence (n, m, T_x) is read: the steps within lengths, checked ones or the caller's."""
    return partial(_used_steps, given)


def _used_steps(given: Any, shape: tuple[int, ...]) -> Any:
    if given is None or len(shape) != 3:
        return True
    mask = within(given if isinstance(given, bytes) else lengths(given, *shape[1:]), shape[2])
    return mask if mask.shape == shape[1:] else True


def _aligned(array: NDArray[Any], dtype: np.dtype[Any]) -> Any:
    """Return an array as an aligned one of this type, of any layout."""
    array = np.require(array, dtype, ["ALIGNED"])
    # When NumPy says "aligned" it counts neither the strides of a dimension of one nor the address of an empty
    # array; kernels do.
    whole_items = math.gcd(dtype.itemsize, *array.strides) == dtype.itemsize
    return array if array.size and whole_items else array.copy()


def path(value: Any) -> str:
    """Return a path as text."""
    try:
        return os.fsdecode(value)
    except TypeError as error:
        raise TypeError(f"path: expected a path, got {type(value).__name__}") from error


def flag(name: str, value: Any) -> bool:
    """Return a truth value."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {type(value).__name__}")
    return bool(value)


def number(name: str, value: Any, expected: str, low: float, high: float) -> float:
    """Return a number from `low` to `high`, which is what is `expected`."""
    if type(value) is float and low <= value <= high:
        return value
    try:
        if isinstance(value, (str, bytes)) or np.ndim(value) != 0:
            raise TypeError("not one number")
        number = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected {expected}, got {type(value).__name__}") from error
    except OverflowError as error:  # an integer beyond every float
        raise ValueError(f"{name}: expected {expected}, got {type(value).__name__} beyond every float") from error
    if not low <= number <= high:
        raise ValueError(f"{name}: expected {expected}, got {value}")
    return number


def generator(name: str, value: Any) -> np.random.Generator:
    """Return a generator of random numbers, or the one of a seed."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        if value < 0:
            raise ValueError(f"{name}: expected a seed of 0 or more, got {value}")
        value = np.random.default_rng(value)
    if not isinstance(value, np.random.Generator):
        got = type(value).__name__
        raise TypeError(f"{name}: expected a numpy.random.Generator, as default_rng(seed) makes, or a seed, got {got}")
    return value


def dimensions(name: str, value: Any, letters: str, dtype: DType = FLOAT64, used: Used | None = None) -> Array:
    """Return `value` as `real` does, with as many dimensions as there are letters."""
    array = real(name, value, letters, dtype, used)
    count = letters.count(",") + 1
    if array.ndim != count:
        raise ValueError(f"{name}: expected {count} dimensions ({letters}), got shape {array.shape}")
    return array


def shaped(
    name: str, value: Any, letters: str, shape: tuple[int, ...], dtype: DType = FLOAT64, used: Used | None = None
) -> Array:
    """Return `value` as `real` does, with exactly this shape."""
    array = real(name, value, letters, dtype, used)
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape ({letters}) = {shape}, got {array.shape}")
    return array


def columns(name: str, value: Any, letter: str, *rest: int, dtype: DType = FLOAT64, used: Used | None = None) -> Array:
    """Return `value` as `real` does, with any number of rows and the rest of the shape as given."""
    array = real(name, value, dtype=dtype, used=used)
    letters = f"{letter}, m, T_x" if len(rest) == 2 else f"{letter}, m"
    if array.ndim == 0 or array.shape[1:] != rest:
        expected = f"({letter}, {', '.join(map(str, rest))})"
        raise ValueError(f"{name}: expected shape ({letters}) = {expected}, got {array.shape}")
    return array


def dense_or_indices(x: Any) -> tuple[Any, Any]:
    """Return an input as the kernels take it: x and None, or None and the indices that stand for one-hot columns."""
    return (None, x) if x.dtype.kind == "i" else (x, None)


def whole_numbers(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of objects that all are integers, as pandas gives its nullable ones, as integers.

    Any other one is returned as it is.
    """
    if array.dtype.kind != "O" or not array.size:
        return array
    if [entry for entry in array.flat if not isinstance(entry, (int, np.integer)) or isinstance(entry, bool)]:
        return array
    try:
        return array.astype(np.int64)
    except OverflowError:
        return array


def any_input(name: str, value: Any, letters: str = "") -> NDArray[Any]:
    """Return `value` as `any_array` does, but objects that may be indices as integers."""
    return whole_numbers(any_array(name, value, letters))


def are_indices(array: NDArray[Any], ndim: int) -> bool:
    """Whether an input that would have `ndim` dimensions if it were dense is of indices."""
    return array.dtype.kind in "iu" and array.ndim == ndim - 1


def dense(
    name: str,
    value: Any,
    letters: str,
    dtype: DType = FLOAT64,
    used: Used | None = None,
    shape: tuple[int, ...] | None = None,
) -> Array:
    """Return an input that is not of indices as `dimensions` or `shaped` does; the error says what indices are."""
    try:
        if shape is not None:
            return shaped(name, value, letters, shape, dtype, used)
        return dimensions(name, value, letters, dtype, used)
    except ValueError as error:
        array = any_array(name, value)
        if array.ndim != letters.count(","):
            raise
        short = letters.partition(", ")[2]
        hint = f"({short}) is for indices, which are integers and not {array.dtype}"
        raise ValueError(f"{error}; {hint}") from error


def indices(
    name: str, array: NDArray[Any], n_x: int, kept: bytes | None = None, letters: str = "n_x"
) -> NDArray[np.intp]:
    """Return indices, (m, T_x) or (m,) of integers, as an aligned numpy.intp array of any layout.

    Raises
    ------
    ValueError
        If one within the lengths, which are as `lengths` returns them, is not from 0 to n_x - 1.
    """
    outside = (array < 0) | (array >= n_x)
    if kept is not None:
        outside &= within(kept, array.shape[1])
    for at in np.argwhere(outside)[:1].tolist():
        where = f"example {at[0]}" + "".join(f" at step {t}" for t in at[1:])
        got = f"got {array[tuple(at)]} for {where}"
        raise ValueError(f"{name}: expected indices from 0 to {letters} - 1 = {n_x - 1}, {got}")
    aligned: NDArray[np.intp] = _aligned(array, INTP)
    return aligned


def state(name: str, value: Any, n_a: int, m: int, dtype: DType = FLOAT64) -> Array:
    """Return a state of shape (n_a, m), or (n_a, 1) for all examples."""
    array = real(name, value, dtype=dtype)
    if array.shape != (n_a, m) and array.shape != (n_a, 1):
        raise ValueError(f"{name}: expected shape (n_a, m) = {(n_a, m)} or (n_a, 1), got {array.shape}")
    return array


def lengths(value: Any, m: int, T_x: int) -> bytes:
    """Return a copy of the examples' numbers of steps, numpy.intp as bytes.

    Raises
    ------
    TypeError
        If they are no integers.
    ValueError
        If there are not m of them, or one is not from 0 to T_x.
    """
    try:
        return _lengths.copy(value, m, T_x)
    except MISFIT:  # what does not fit, is told below
        pass
    array, odd = any_array("lengths", value), False
    if isinstance(value, (list, tuple)):  # where NumPy takes True for 1, and an empty one for float64
        odd = bool([entry for entry in value if isinstance(entry, (bool, np.bool_))])
        array = array.astype(object if odd else array.dtype if value else np.intp)
    array = array if odd else whole_numbers(array)
    if array.dtype.kind not in "iu":
        raise TypeError(f"lengths: expected integers, got {no_numbers('lengths', value, array)}")
    if array.shape != (m,):
        raise ValueError(f"lengths: expected shape (m,) = ({m},), got {array.shape}")
    for j in np.flatnonzero((array < 0) | (array > T_x))[:1]:
        raise ValueError(f"lengths: expected 0 to T_x = {T_x} steps, got {array[j]} for example {j}")
    return _lengths.copy(array.astype(np.intp), m, T_x)


def mapping(parameters: Any, name: str = "parameters") -> None:
    """Refuse parameters that are no mapping."""
    if not (isinstance(parameters, Mapping) or hasattr(parameters, "keys")):
        kind = type(parameters).__name__
        raise TypeError(f"{name}: expected a mapping from names to arrays, got {kind}")


def entry(parameters: Parameters, key: str, name: str = "parameters") -> Any:
    """Return one entry of the caller's parameters."""
    mapping(parameters, name)
    try:
        if key in parameters:
            return parameters[key]
    except MemoryError:
        raise
    except Exception as error:  # a file that is closed, say
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        kind = Missing if isinstance(error, KeyError) else ValueError
        raise kind(f"{name}[{key!r}]: expected an array, got none: reading it failed ({reason})") from error
    raise Missing(f"{name}: expected an entry {key!r}, got only {sorted(map(str, parameters))}")


def weights(
    parameters: Parameters,
    wanted: dict[str, tuple[str, tuple[int, int]]],
    name: str = "parameters",
    dtype: DType = FLOAT64,
) -> dict[str, Array]:
    """Return the wanted entries, C-contiguous and of exactly the shapes given with them."""
    found: dict[str, Array] = {}
    for key, (letters, shape) in wanted.items():
        array = shaped(f"{name}[{key!r}]", entry(parameters, key, name), letters, shape, dtype)
        found[key] = np.ascontiguousarray(array)
    return found


def columns_fit(name: str, m: int, T_x: int = 1) -> None:
    """Refuse more examples times steps than the kernels count."""
    if m * T_x > MOST_COLUMNS:
        raise ValueError(f"{name}: sizes m = {m}, T_x = {T_x} are more than an array can hold")


def output_shapes(key: str, n_y: int, n_a: int) -> dict[str, tuple[str, tuple[int, int]]]:
    """Return the shapes of the output layer's weights, with the letters that explain them."""
    return {key: ("n_y, n_a", (n_y, n_a)), "by": ("n_y, 1", (n_y, 1))}


def output_sizes(parameters: Any, key: str) -> tuple[int, int]:
    """Return n_y and n_a, the shape of the output layer's weights."""
    n_y, n_a = dimensions(f"parameters[{key!r}]", entry(parameters, key), "n_y, n_a").shape
    return n_y, n_a


def unpacked(name: str, value: Any, letters: str) -> Any:
    """Return a tuple (or list) with as many entries as there are letters."""
    count = letters.count(",") + 1
    if not isinstance(value, (tuple, list)):
        got = "None, which a forward pass returns with cache=False" if value is None else type(value).__name__
        raise TypeError(f"{name}: expected a tuple ({letters}), got {got}")
    if len(value) != count:
        raise ValueError(f"{name}: expected a tuple ({letters}), got {len(value)} entries")
    return value
